package vswitch

// MoveQueues moves every receive queue on the host to the next worker.
func (h *Host) MoveQueues() (moved int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []*rxQueue
	for _, w := range h.workers {
		all = append(all, w.queues...)
	}
	for _, q := range all {
		for i, w := range h.workers {
			if q.worker == w && q.place >= 0 && h.move(q, h.workers[(i+1)%len(h.workers)]) {
				moved++
				break
			}
		}
	}
	return moved
}

// Gather moves every receive queue on the host to the first worker.
func (h *Host) Gather() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range h.workers[1:] {
		for len(w.queues) > 0 {
			h.move(w.queues[0], h.workers[0])
		}
	}
}

// Balance measures the load and balances it, as housekeeping does each second.
func (h *Host) Balance() { h.balance() }

// BalanceAt balances as if the queues of ports, by name, had these loads.
func (h *Host) BalanceAt(loads map[string]float64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range h.workers {
		w.load = 0
		for _, q := range w.queues {
			q.load = loads[q.port.name]
			w.load += q.load
		}
		if w.load > 1 { // that is all there is
			for _, q := range w.queues {
				q.load /= w.load
			}
			w.load = 1
		}
	}
	h.rebalance()
}
