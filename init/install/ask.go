package install

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// Person is who stands at the machine's console.
type Person interface {
	Tell(text string)
	// Line waits for a line.
	Line(ctx context.Context) (string, error)
}

// Confirm has a person choose among disks, where the install file does not,
// and say yes. It asks until it is answered or ctx ends.
func Confirm(ctx context.Context, p Person, fits []Disk, chosen *Disk) (Disk, error) {
	for {
		d := chosen
		if d == nil {
			var err error
			if d, err = pick(ctx, p, fits); err != nil {
				return Disk{}, err
			}
			if d == nil {
				continue
			}
		}
		p.Tell(fmt.Sprintf("everything on %s will be lost; type yes to install: ", d))
		answer, err := p.Line(ctx)
		if err != nil {
			return Disk{}, err
		}
		if strings.EqualFold(answer, "yes") {
			return *d, nil
		}
		p.Tell("nothing was written; switch the machine off, or go on\n")
	}
}

func pick(ctx context.Context, p Person, fits []Disk) (*Disk, error) {
	var text strings.Builder
	text.WriteString("this stick installs Wayside; the disks of this machine are\n")
	for i, d := range fits {
		fmt.Fprintf(&text, "  %d  %s\n", i+1, d)
	}
	text.WriteString("number of the disk to install to: ")
	p.Tell(text.String())
	answer, err := p.Line(ctx)
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(answer)
	if err != nil || n < 1 || n > len(fits) {
		p.Tell(fmt.Sprintf("%q is none of these numbers\n", answer))
		return nil, nil
	}
	return &fits[n-1], nil
}
