package lacp

import "time"

// transmit returns a PDU to be sent, in the memory of buf, or nil: an answer to a marker, or an LACPDU
// when there is need to transmit one and fewer than maxSent were sent within the last second (6.4.16).
func (p *Port) transmit(now time.Duration, buf []byte) []byte {
	if !p.up {
		return nil
	}
	if len(p.answers) > 0 {
		m := p.answers[0]
		p.answers = append(p.answers[:0], p.answers[1:]...)
		return m.Append(buf[:0])
	}
	if !p.ntt || !p.mayTransmit() || now-p.sent[0] < fastPeriodic {
		return nil
	}
	copy(p.sent[:], p.sent[1:])
	p.sent[maxSent-1] = now
	p.ntt = false
	p.count.Sent++
	pdu := PDU{Actor: p.actor, Partner: p.partner}
	return pdu.Append(buf[:0])
}

// mayTransmit reports whether the port or its partner is active: two passive ends are silent.
func (p *Port) mayTransmit() bool {
	return p.actor.State.Has(Activity) || p.partner.State.Has(Activity)
}
