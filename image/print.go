package image

import (
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/waysideos/wayside/image/release"
)

// printer writes labelled lines and keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(label, format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, "%-12s %s\n", label, fmt.Sprintf(format, args...))
	}
}

func bytesText(n int64) string {
	if n < 1<<20 {
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

func releaseText(r release.Release) string {
	return fmt.Sprintf("%s for %s (%s), epoch %d, counter %d", r.Version, r.Board, r.Arch, r.Epoch, r.Counter)
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
