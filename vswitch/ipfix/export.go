package ipfix

import "time"

// process is the exporting process (RFC 7011, section 2): the goroutine of an exporter and what is its own.
type process struct {
	*Exporter
	templatesSent time.Time
	messagesSince uint64 // since then

	// Memory that is used again.
	connected []*table
	unnamed   []interfaceOf
	batch     []record
}

type interfaceOf struct {
	index uint32
	name  string
}

// run exports until stop is closed, and then what is left.
func (e *Exporter) run(stop, done chan struct{}) {
	defer close(done)
	p := process{Exporter: e}
	e.message.send = p.send
	p.sendTemplates()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			p.drain()
			p.sweep(true)
			e.message.flush()
			return
		case <-e.early.wake:
			p.drain()
		case <-tick.C:
			e.early.renew(e.config.MaxRate)
			p.drain()
			p.sweep(false)
			e.message.flush()
		}
		if p.messagesSince >= templateMessages || time.Since(p.templatesSent) >= e.config.TemplateInterval {
			p.sendTemplates()
		}
	}
}

// send gives a message to all collectors.
func (p *process) send(b []byte) {
	for _, c := range p.config.Collectors {
		if _, err := c.Write(b); err != nil {
			p.sendErrors.Add(1)
		}
	}
	p.messages.Add(1)
	p.messagesSince++
}

// sendTemplates sends the templates and the names of all ports.
func (p *process) sendTemplates() {
	p.message.flush()
	p.templatesSent, p.messagesSince = time.Now(), 0
	p.message.templates()
	p.mu.Lock()
	for _, t := range p.tables {
		t.named = false
	}
	p.mu.Unlock()
	p.names()
	p.message.flush()
}

// names adds the names that have not been sent to the message.
func (p *process) names() {
	p.unnamed = p.unnamed[:0]
	p.mu.Lock()
	for _, t := range p.tables {
		if !t.named {
			t.named = true
			p.unnamed = append(p.unnamed, interfaceOf{t.ingressInterface(), t.port.Load().Name})
		}
	}
	p.mu.Unlock()
	for _, i := range p.unnamed {
		p.message.name(i.index, i.name)
	}
}

// drain adds the flows that made room and those of ports that have gone to the message, and then
// the names of ports that have come, which may have the index of one that has gone.
func (p *process) drain() {
	p.batch = p.early.swap(p.batch)
	p.add(p.batch)
	p.mu.Lock()
	gone := p.gone
	p.gone = nil
	p.mu.Unlock()
	for _, t := range gone {
		p.sweepTable(t, true)
	}
	p.names()
}

// sweep adds the flows of connected ports that are to be reported, or all, to the message.
func (p *process) sweep(all bool) {
	p.mu.Lock()
	p.connected = append(p.connected[:0], p.tables...)
	p.mu.Unlock()
	for _, t := range p.connected {
		p.sweepTable(t, all)
	}
	clear(p.connected)
}

func (p *process) sweepTable(t *table, all bool) {
	for at := 0; at >= 0; {
		now := time.Since(p.epoch).Milliseconds()
		p.batch, at = t.sweep(at, now, all, p.batch[:0])
		p.add(p.batch)
	}
}

func (p *process) add(records []record) {
	epoch := time.Now().UnixMilli() - time.Since(p.epoch).Milliseconds() // by the clock as it is set now
	for i := range records {
		p.message.flow(&records[i], epoch)
	}
	p.records.Add(uint64(len(records)))
}
