package main

import (
	"os"
	"strconv"
	"strings"
)

// The number of huge pages is the machine's, not the lab's: whoever changes it puts it back.
const hugePageCount = "/proc/sys/vm/nr_hugepages"

// reserveHugePages has the kernel set so much memory aside in huge pages, as far as it can. Pages that
// are free already count.
func reserveHugePages(bytes int) (undo func()) {
	page, free := hugePages()
	before, ok := hugePagesNow()
	if missing := (bytes+page-1)/max(page, 1) - free; page == 0 || !ok || missing <= 0 {
		return func() {}
	} else if setHugePages(before+missing) != nil {
		return func() {}
	}
	after, _ := hugePagesNow()
	return func() {
		// Others may have changed it as well: only what was added is taken away.
		if now, ok := hugePagesNow(); ok && after > before {
			setHugePages(max(0, now-(after-before)))
		}
	}
}

func hugePagesNow() (n int, ok bool) {
	b, err := os.ReadFile(hugePageCount)
	if err != nil {
		return 0, false
	}
	n, err = strconv.Atoi(strings.TrimSpace(string(b)))
	return n, err == nil
}

func setHugePages(n int) error {
	return os.WriteFile(hugePageCount, strconv.AppendInt(nil, int64(n), 10), 0)
}

// hugePages returns the size of one and how many are free; 0 where there are none.
func hugePages() (size, free int) {
	b, _ := os.ReadFile("/proc/meminfo")
	for l := range strings.Lines(string(b)) {
		f := strings.Fields(l)
		if len(f) < 2 {
			continue
		}
		n, _ := strconv.Atoi(f[1])
		switch f[0] {
		case "HugePages_Free:":
			free += n
		case "HugePages_Rsvd:":
			free -= n // promised to somebody
		case "Hugepagesize:":
			size = n << 10
		}
	}
	return size, free
}
