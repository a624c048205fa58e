package main

import (
	"encoding/json"
	"fmt"
	"net"
)

// qmp is a connection to the monitor of a QEMU (docs/interop/qmp-spec.rst).
type qmp struct {
	conn net.Conn
	in   *json.Decoder
}

// dialQMP connects to the monitor at a unix socket.
func dialQMP(path string) (*qmp, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, err
	}
	q := &qmp{conn: conn, in: json.NewDecoder(conn)}
	var greeting struct{ QMP json.RawMessage }
	if err := q.in.Decode(&greeting); err != nil {
		return nil, err
	}
	return q, q.execute("qmp_capabilities", nil, nil)
}

// execute runs a command and decodes what it returns into result, if that is not nil.
func (q *qmp) execute(command string, arguments, result any) error {
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := json.NewEncoder(q.conn).Encode(request); err != nil {
		return err
	}
	for {
		var answer struct {
			Event  string
			Return json.RawMessage
			Error  *struct{ Desc string }
		}
		if err := q.in.Decode(&answer); err != nil {
			return err
		}
		switch {
		case answer.Event != "":
		case answer.Error != nil:
			return fmt.Errorf("%s: %s", command, answer.Error.Desc)
		case result != nil:
			return json.Unmarshal(answer.Return, result)
		default:
			return nil
		}
	}
}

func (q *qmp) close() error { return q.conn.Close() }
