package overlay

// radix is an immutable map from numbers below 2²⁴ to values. A change copies the way to one value,
// however many there are.
type radix[T any] struct {
	root  *radixNode[T]
	count int
}

type radixNode[T any] struct {
	owner *edit
	below []*radixNode[T] // of the upper three levels
	set   uint64          // of the lowest one: which values there are
	value []T
}

const (
	radixBits   = 6
	radixFanout = 1 << radixBits
	radixLevels = 4
)

// get returns the value of a number, or the zero value.
func (r *radix[T]) get(k uint32) (v T) {
	n := r.root
	for shift := radixBits * (radixLevels - 1); n != nil; shift -= radixBits {
		i := k >> shift & (radixFanout - 1)
		if shift == 0 {
			return n.value[i]
		}
		n = n.below[i]
	}
	return v
}

// put sets the value of a number.
func (r *radix[T]) put(ed *edit, k uint32, v T) {
	n := &r.root
	for shift := radixBits * (radixLevels - 1); ; shift -= radixBits {
		*n = (*n).own(ed, shift == 0)
		i := k >> shift & (radixFanout - 1)
		if shift == 0 {
			if (*n).set>>i&1 == 0 {
				(*n).set |= 1 << i
				r.count++
			}
			(*n).value[i] = v
			return
		}
		n = &(*n).below[i]
	}
}

// remove takes the value of a number away. Nodes without values stay: there are few.
func (r *radix[T]) remove(ed *edit, k uint32) {
	n := &r.root
	for shift := radixBits * (radixLevels - 1); *n != nil; shift -= radixBits {
		*n = (*n).own(ed, shift == 0)
		i := k >> shift & (radixFanout - 1)
		if shift == 0 {
			if (*n).set>>i&1 != 0 {
				(*n).set &^= 1 << i
				r.count--
			}
			var none T
			(*n).value[i] = none
			return
		}
		n = &(*n).below[i]
	}
}

func (n *radixNode[T]) own(ed *edit, lowest bool) *radixNode[T] {
	c := &radixNode[T]{owner: ed}
	switch {
	case n == nil && lowest:
		c.value = make([]T, radixFanout)
	case n == nil:
		c.below = make([]*radixNode[T], radixFanout)
	case n.owner == ed:
		return n
	default:
		c.set = n.set
		c.below = append(c.below, n.below...)
		c.value = append(c.value, n.value...)
	}
	return c
}

// all calls yield for every value, in the order of their numbers, until it returns false.
func (r *radix[T]) all(yield func(uint32, T) bool) { r.root.all(0, yield) }

func (n *radixNode[T]) all(k uint32, yield func(uint32, T) bool) bool {
	if n == nil {
		return true
	}
	for i := range uint32(radixFanout) {
		if n.value != nil {
			if n.set>>i&1 != 0 && !yield(k<<radixBits|i, n.value[i]) {
				return false
			}
		} else if !n.below[i].all(k<<radixBits|i, yield) {
			return false
		}
	}
	return true
}
