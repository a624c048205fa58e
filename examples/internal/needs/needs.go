// Package needs says what a machine lacks to run an example.
package needs

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// Program is a program that an example runs, with its Debian package.
type Program struct{ Name, Package string }

// Missing says what the machine lacks, all of it in one message: the programs that are not there, behind what else is
// lacking. It is nil when that is nothing.
func Missing(programs []Program, lacks ...string) error {
	var packages []string
	for _, p := range programs {
		if _, err := exec.LookPath(p.Name); err != nil {
			packages = append(packages, p.Package)
		}
	}
	if len(packages) > 0 {
		lacks = append(lacks, fmt.Sprintf("the Debian packages %s (apt-get install %s)",
			strings.Join(packages, ", "), strings.Join(packages, " ")))
	}
	if len(lacks) == 0 {
		return nil
	}
	return errors.New("this machine lacks " + strings.Join(lacks, "; and "))
}
