package metrics

import "github.com/hvswitch/hvswitch/vswitch"

type classFamilies struct {
	queued, queuedBytes     family
	txFrames, txBytes, late family
	dropped                 family
}

func newClassFamilies(c *catalog) classFamilies {
	labels := []string{labelClass, labelSwitch}
	return classFamilies{
		queued:      c.gauge("class_queued_frames", "Frames that wait for their turn at the uplink.", labels...),
		queuedBytes: c.gauge("class_queued_bytes", "Bytes that wait for their turn at the uplink, as they take of the wire.", labels...),
		txFrames:    c.counter("class_transmit_frames", "Frames sent to the uplink.", labels...),
		txBytes:     c.counter("class_transmit_bytes", "Bytes sent to the uplink, as they take of the wire.", labels...),
		late:        c.counter("class_delay_seconds", "Time that frames sent to the uplink have waited, all together.", labels...),
		dropped:     c.counter("class_dropped_frames", "Frames dropped because too much was waiting.", labels...),
	}
}

func (s *scrape) class(c vswitch.ClassStats, sw *label) {
	f := &s.classFamilies
	labels := s.labels(pair(labelClass, c.Name), s.hostLabel, sw)
	s.send(f.queued, float64(c.Queued), labels)
	s.send(f.queuedBytes, float64(c.QueuedBytes), labels)
	s.send(f.txFrames, float64(c.Sent), labels)
	s.send(f.txBytes, float64(c.SentBytes), labels)
	s.send(f.late, c.DelaySum.Seconds(), labels)
	s.send(f.dropped, float64(c.Dropped), labels)
}
