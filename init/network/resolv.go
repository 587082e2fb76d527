//go:build linux

package network

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxServers is how many name servers resolvers look at (resolv.conf(5)).
const maxServers = 3

// resolvConf is the text of resolv.conf: the profile's servers, then those
// that DHCP gave, each once.
func resolvConf(profile []string, leased []string) string {
	var b strings.Builder
	b.WriteString("# written by init: site profile first, then DHCP\n")
	var seen []string
	for _, s := range slices.Concat(profile, leased) {
		if len(seen) == maxServers || slices.Contains(seen, s) {
			continue
		}
		seen = append(seen, s)
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	return b.String()
}

// writeAtomically replaces a file on /run, which is memory: nothing is synced.
func writeAtomically(file, text string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("write %s: %v", file, err)
	}
	temp := file + ".new"
	if err := os.WriteFile(temp, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write %s: %v", file, err)
	}
	if err := os.Rename(temp, file); err != nil {
		return fmt.Errorf("replace %s: %v", file, err)
	}
	return nil
}
