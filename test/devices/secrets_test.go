package devices

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// secretFiles are all that init has given to services.
const secretFiles = "/run/wayside/secrets*/*"

// readable lists, to who asks from outside, the secrets that the box's own
// supplicant may read: a child looks with its user and groups.
func readable(w http.ResponseWriter, _ *http.Request) {
	who, err := identity("wpa_supplicant\x00-i\x00wlan0\x00")
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	all, _ := filepath.Glob(secretFiles) // as root
	cmd := exec.Command("/proc/self/exe", all...)
	cmd.Env = []string{playsEnv + "=reader"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	out, err := cmd.CombinedOutput()
	if err != nil {
		http.Error(w, fmt.Sprintf("%v: %s", err, out), http.StatusInternalServerError)
		return
	}
	fmt.Fprintf(w, "%d there; %s", len(all), out)
}

// playReader prints which of the files its user can read.
func playReader(files []string) {
	for _, file := range files {
		if _, err := os.ReadFile(file); err == nil {
			fmt.Print(file, " ")
		}
	}
}

// identity is the user and the groups of the process with that command line.
func identity(command string) (*syscall.Credential, error) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range all {
		line, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(line), command) {
			continue
		}
		status, err := os.ReadFile(filepath.Join(filepath.Dir(file), "status"))
		if err != nil {
			return nil, err
		}
		ids := map[string][]uint32{}
		for line := range strings.Lines(string(status)) {
			key, value, _ := strings.Cut(line, ":")
			for _, word := range strings.Fields(value) {
				if n, err := strconv.ParseUint(word, 10, 32); err == nil {
					ids[key] = append(ids[key], uint32(n))
				}
			}
		}
		if len(ids["Uid"]) == 0 || len(ids["Gid"]) == 0 {
			return nil, fmt.Errorf("%s has no ids: %s", file, status)
		}
		return &syscall.Credential{Uid: ids["Uid"][0], Gid: ids["Gid"][0], Groups: ids["Groups"]}, nil
	}
	return nil, fmt.Errorf("no process %q", command)
}
