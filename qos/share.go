package qos

const (
	// unitWeight and unitRate are charged for a byte of a class with minimum 1 in the modes: large
	// enough that rounding is below 0.1 % up to 100 and 1 Tbit/s.
	unitWeight = 1 << 30
	unitRate   = 256 * HighestRate

	// maxCharge is the largest charge for a byte, which times maxSize is below 2^63, so virtual
	// times, which wrap around, can be compared.
	maxCharge = 1 << 42

	// spareCharge is charged for a byte of a class without minimum among such classes.
	spareCharge = 1 << 16

	// maxSize is the largest size of a frame in bytes.
	maxSize = 1 << 20

	// spareParts is the part of the whole that classes without minimum have at least.
	spareParts = 100
)

// shares are the minimums of a scheduler.
type shares struct {
	mode     Mode
	whole    uint64 // what can be reserved: 100, or the rate of the link
	reserved uint64 // sum of the minimums
}

func (s *shares) unit() uint64 {
	if s.mode == Absolute {
		return unitRate
	}
	return unitWeight
}

// charge returns the charge for a byte of a class with a minimum.
func (s *shares) charge(minimum uint64) uint64 { return min(s.unit()/minimum, maxCharge) }

// spare returns the charge for a byte of the classes without minimum together: they share what is not
// reserved, at least a hundredth of the whole or of what is reserved, if that is more.
func (s *shares) spare() uint64 {
	if most := max(s.whole, s.reserved); s.reserved >= s.whole || s.whole-s.reserved < most/spareParts {
		return min(s.unit()/most*spareParts, maxCharge)
	}
	return s.charge(s.whole - s.reserved)
}
