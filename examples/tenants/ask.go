package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// atOnce is the number of questions that are asked at the same time.
	atOnce = 64

	// oneTry is how long one connection may take before the next is tried. A guest gives up asking for
	// a MAC after 3 s.
	oneTry = 4 * time.Second
)

// question is one of a VM: who is at an address?
type question struct {
	from   *vm
	at     netip.Addr
	answer string // the name of who answered, or nobody
	err    error  // why nobody did
}

const nobody = "nobody"

// matrix is who answered whom.
type matrix struct {
	plan     *plan
	required requirement
	asked    map[asker]question
	heard    map[string]map[string]bool // by VM: who has connected to it
	took     time.Duration
}

type asker struct {
	from *vm
	at   netip.Addr
}

// meet lets every VM ask at every address, and tells who reaches whom.
func (l *lab) meet(ctx context.Context, w io.Writer, r requirement) error {
	m := l.askAll(ctx, r)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	m.print(w)
	return m.err()
}

func (l *lab) askAll(ctx context.Context, r requirement) *matrix {
	return l.ask(ctx, r, func(*vm, netip.Addr) bool { return true })
}

// ask lets VMs ask at the addresses that are to be asked. Nobody asks for himself.
func (l *lab) ask(ctx context.Context, r requirement, asks func(*vm, netip.Addr) bool) *matrix {
	m := &matrix{plan: l.plan, required: r, asked: map[asker]question{}, heard: map[string]map[string]bool{}}
	start := time.Now()
	var all sync.WaitGroup
	var mu sync.Mutex
	room := make(chan struct{}, atOnce)
	for _, from := range l.machines {
		for _, ca := range l.plan.addresses() {
			if from.vm.has(ca) || !asks(from.vm, ca) {
				continue
			}
			patience := r.inVain
			if slices.ContainsFunc(l.plan.vms, func(v *vm) bool { return v.has(ca) && r.reach(from.vm, v) }) {
				patience = r.within
			}
			room <- struct{}{}
			all.Go(func() {
				q := question{from: from.vm, at: ca}
				q.ask(ctx, from, patience)
				mu.Lock()
				m.asked[asker{from.vm, ca}] = q
				mu.Unlock()
				<-room
			})
		}
	}
	all.Wait()
	m.took = time.Since(start)
	for _, to := range l.machines {
		m.heard[to.vm.name] = to.heard()
	}
	return m
}

// ask tries until somebody answers or there is no patience left.
func (q *question) ask(ctx context.Context, m *machine, patience time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		once, cancel := context.WithTimeout(ctx, oneTry)
		q.answer, q.err = m.whoIs(once, q.at)
		if q.err != nil {
			q.answer = nobody
			<-once.Done() // not again at once, whatever the reason
		}
		cancel()
		if q.err == nil || ctx.Err() != nil {
			return
		}
	}
}

// differences say what differs from what is required of a VM with another one.
func (m *matrix) differences(a, b *vm) error {
	if a == b {
		return nil
	}
	var errs []error
	required := m.required.reach(a, b)
	for _, ca := range b.cas {
		switch q, asked := m.asked[asker{a, ca.Addr()}]; {
		case required && !asked:
			errs = append(errs, fmt.Errorf("%s must reach %s at %s: it has that address itself", a.name, b.name, ca.Addr()))
		case required && q.answer == nobody:
			errs = append(errs, fmt.Errorf("%s must reach %s at %s: %w", a.name, b.name, q.at, q.err))
		case required && q.answer != b.name:
			errs = append(errs, fmt.Errorf("%s must reach %s at %s: %q answered", a.name, b.name, q.at, q.answer))
		case !required && q.answer == b.name:
			errs = append(errs, fmt.Errorf("%s must not reach %s: it answered at %s", a.name, b.name, q.at))
		}
	}
	if !required && m.heard[b.name][a.name] {
		errs = append(errs, fmt.Errorf("%s must not reach %s: it was heard there", a.name, b.name))
	}
	return errors.Join(errs...)
}

// err tells all differences, or those between one VM and all others.
func (m *matrix) err(of ...*vm) error {
	var errs []error
	for _, a := range m.plan.vms {
		for _, b := range m.plan.vms {
			if len(of) == 0 || slices.Contains(of, a) || slices.Contains(of, b) {
				errs = append(errs, m.differences(a, b))
			}
		}
	}
	return errors.Join(errs...)
}

// reached reports whether a VM has been reached by another one at all its addresses that this one does not have.
func (m *matrix) reached(a, b *vm) bool {
	n := 0
	for _, ca := range b.cas {
		switch q, asked := m.asked[asker{a, ca.Addr()}]; {
		case asked && q.answer != b.name:
			return false
		case asked:
			n++
		}
	}
	return n > 0
}

// another reports whether at an address of a VM somebody else has answered, or the asker has it himself.
func (m *matrix) another(a, b *vm) bool {
	return slices.ContainsFunc(b.cas, func(ca netip.Prefix) bool {
		q, asked := m.asked[asker{a, ca.Addr()}]
		return !asked || q.answer != nobody && q.answer != b.name
	})
}
