package natsstore

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// startTimeout is how long the embedded server may take to read its files.
const startTimeout = time.Minute

// embedded is a server in this process.
type embedded struct {
	*server.Server
	temporary string // directory to remove with it
}

func startServer(o *Options) (*embedded, error) {
	e := &embedded{}
	so := &server.Options{
		ServerName: "hvswitch-policy", JetStream: true, StoreDir: o.Dir, SyncAlways: true,
		DontListen: o.Listen == "", NoSigs: true, NoLog: false,
	}
	if o.Listen != "" {
		host, port, err := net.SplitHostPort(o.Listen)
		if err != nil {
			return nil, fmt.Errorf("policy store: Listen: %w", err)
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("policy store: Listen: %w", err)
		}
		so.Host, so.Port = host, int(n)
		if n == 0 {
			so.Port = server.RANDOM_PORT
		}
	}
	if o.Dir == "" { // a server wants a place for its files even if it has none
		dir, err := os.MkdirTemp("", "hvswitch-policy-")
		if err != nil {
			return nil, fmt.Errorf("policy store: %w", err)
		}
		e.temporary, so.StoreDir = dir, dir
	}
	if o.Server != nil {
		o.Server(so)
	}
	s, err := server.NewServer(so)
	if err != nil {
		e.remove()
		return nil, fmt.Errorf("policy store: %w", err)
	}
	e.Server = s
	s.SetLoggerV2(serverLog{o.Logger}, false, false, false)
	s.Start()
	if !s.ReadyForConnections(startTimeout) {
		e.stop()
		return nil, errors.New("policy store: the embedded server does not start")
	}
	if !s.JetStreamEnabled() {
		e.stop()
		return nil, errors.New("policy store: the embedded server starts without JetStream")
	}
	return e, nil
}

func (e *embedded) stop() {
	e.Shutdown()
	e.WaitForShutdown()
	e.remove()
}

func (e *embedded) remove() {
	if e.temporary != "" {
		_ = os.RemoveAll(e.temporary)
	}
}

// serverLog gives what the embedded server logs to a slog.Logger.
type serverLog struct{ log *slog.Logger }

func (l serverLog) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l serverLog) Warnf(format string, v ...any)   { l.log.Warn(fmt.Sprintf(format, v...)) }
func (l serverLog) Fatalf(format string, v ...any)  { l.log.Error(fmt.Sprintf(format, v...)) }
func (l serverLog) Errorf(format string, v ...any)  { l.log.Error(fmt.Sprintf(format, v...)) }
func (l serverLog) Debugf(format string, v ...any)  {}
func (l serverLog) Tracef(format string, v ...any)  {}
