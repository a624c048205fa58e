package checksum

// Update returns the checksum sum after one word of what it covers has changed from old to new
// (RFC 1624, section 3, equation 3).
func Update(sum, old, new uint16) uint16 {
	return ^fold(uint64(^sum) + uint64(^old) + uint64(new))
}

// Update32 is Update for two adjacent words, such as an IPv4 address.
func Update32(sum uint16, old, new uint32) uint16 {
	s := uint64(^sum) + uint64(^old>>16) + uint64(^old&0xffff) + uint64(new>>16) + uint64(new&0xffff)
	return ^fold(s)
}
