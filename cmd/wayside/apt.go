package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os/exec"
	"path"
	"slices"
	"strings"

	"github.com/waysideos/wayside/image/debian"
	"github.com/waysideos/wayside/qemu"
)

// hostOS is what os-release(5) says of this machine.
type hostOS struct {
	Distribution string // "debian 12": ID and VERSION_ID
	Pretty       string
}

// aptFacts is what a plan depends on.
type aptFacts struct {
	OS         hostOS
	Candidates map[string]string // package to the version apt would install; absent: unknown to it
	Suites     string            // all of apt's source lists, without comments
	Mirror     debian.Mirror     // where the host's apt gets Debian from
	MirrorErr  error
}

// setupStep is one thing to do as root.
type setupStep struct {
	Write, Content string   // write Content to the file Write, or
	Args           []string // run this
	MayFail        bool     // a failure shows in a later step if it matters
}

const (
	backportsSource = "/etc/apt/sources.list.d/wayside-backports.sources"
	debianKeyring   = "/usr/share/keyrings/debian-archive-keyring.gpg"
)

// plan says how to get the tools that are missing or too old. No steps means
// that nothing has to be done. It decides by its arguments alone.
func plan(tools []toolStatus, apt aptFacts) ([]setupStep, error) {
	plain, newer, suite, err := choosePackages(tools, apt)
	if err != nil || len(plain)+len(newer) == 0 {
		return nil, err
	}
	var steps []setupStep
	if len(newer) > 0 && !strings.Contains(apt.Suites, suite) {
		content, err := backportsStanza(suite, apt)
		if err != nil {
			return nil, err
		}
		steps = append(steps, setupStep{Write: backportsSource, Content: content})
	}
	// One broken source of a third party must not stop us.
	steps = append(steps, setupStep{Args: aptGet("update"), MayFail: true})
	if len(newer) > 0 {
		steps = append(steps, setupStep{Args: aptGet("install", append([]string{"-t", suite}, newer...)...)})
	}
	if len(plain) > 0 {
		steps = append(steps, setupStep{Args: aptGet("install", plain...)})
	}
	return steps, nil
}

// choosePackages sorts the packages to install by where they come from.
func choosePackages(tools []toolStatus, apt aptFacts) (plain, newer []string, suite string, err error) {
	for _, s := range tools {
		if s.State == "ok" {
			continue
		}
		pkg := knownPackage(s.tool.packages, apt.Candidates)
		from := backportOf(pkg, apt.OS)
		candidate := apt.Candidates[pkg]
		switch {
		case from != "" && major(candidate) < qemu.MinVersion:
			suite = from
			newer = append(newer, pkg)
		case s.tool.min > 0 && candidate != "" && len(s.tool.packages) == 1 && major(candidate) < s.tool.min:
			return nil, nil, "", fmt.Errorf("%s offers %s %s, but %d or later is needed: use a newer release, or put a newer %s first on PATH",
				apt.OS.Pretty, pkg, candidate, s.tool.min, s.tool.name)
		default:
			plain = append(plain, pkg)
		}
	}
	slices.Sort(plain)
	slices.Sort(newer)
	return slices.Compact(plain), slices.Compact(newer), suite, nil
}

// knownPackage is the first that apt can install, else the last: apt's lists
// may be empty until they are updated.
func knownPackage(names []string, candidates map[string]string) string {
	for _, name := range names {
		if candidates[name] != "" {
			return name
		}
	}
	return names[len(names)-1]
}

func backportOf(pkg string, host hostOS) (suite string) {
	for _, b := range backports {
		if b.distribution == host.Distribution && slices.Contains(b.packages, pkg) {
			return b.suite
		}
	}
	return ""
}

// backportsStanza is the apt source of a suite on the mirror that the host
// uses already (sources.list(5), deb822 style).
func backportsStanza(suite string, apt aptFacts) (string, error) {
	if apt.MirrorErr != nil {
		return "", fmt.Errorf("%s has too old a QEMU, and the mirror for %s is not known: %v", apt.OS.Pretty, suite, apt.MirrorErr)
	}
	s := fmt.Sprintf("# QEMU for Wayside; written by `wayside host setup`.\nTypes: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n",
		apt.Mirror.Main, suite, debianKeyring)
	if apt.Mirror.IgnoreExpiry { // a frozen mirror, as the host's own sources say
		s += "Check-Valid-Until: no\n"
	}
	return s, nil
}

func aptGet(verb string, args ...string) []string {
	cmd := []string{"env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=120", verb}
	if verb == "install" {
		cmd = append(cmd, "-y", "--no-install-recommends")
	}
	return append(cmd, args...)
}

// readHostOS reads etc/os-release below root.
func readHostOS(root fs.FS) hostOS {
	data, err := fs.ReadFile(root, "etc/os-release")
	if err != nil {
		data, _ = fs.ReadFile(root, "usr/lib/os-release") // etc/ has an absolute link there on some
	}
	values := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			values[key] = strings.Trim(value, `"'`)
		}
	}
	return hostOS{
		Distribution: strings.TrimSpace(values["ID"] + " " + values["VERSION_ID"]),
		Pretty:       values["PRETTY_NAME"],
	}
}

// readSuites joins apt's source lists without their comments.
func readSuites(root fs.FS) string {
	files := []string{"etc/apt/sources.list"}
	for _, pattern := range []string{"*.list", "*.sources"} {
		more, _ := fs.Glob(root, path.Join("etc/apt/sources.list.d", pattern))
		files = append(files, more...)
	}
	var b strings.Builder
	for _, file := range files {
		data, _ := fs.ReadFile(root, file)
		for line := range strings.Lines(string(data)) {
			if !strings.HasPrefix(strings.TrimSpace(line), "#") {
				b.WriteString(line)
			}
		}
	}
	return b.String()
}

// aptCandidates asks apt what it would install.
func aptCandidates(ctx context.Context, tools []toolStatus) map[string]string {
	args := []string{"policy"}
	for _, s := range tools {
		if s.State != "ok" {
			args = append(args, s.tool.packages...)
		}
	}
	cmd := exec.CommandContext(ctx, "apt-cache", args...)
	cmd.Env = append(cmd.Environ(), "LC_ALL=C")
	out, _ := cmd.Output() // what apt does not know stays absent
	return parsePolicy(out)
}

// parsePolicy reads the output of apt-cache policy.
func parsePolicy(out []byte) map[string]string {
	candidates := map[string]string{}
	pkg := ""
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		line := lines.Text()
		if name, ok := strings.CutSuffix(line, ":"); ok && !strings.HasPrefix(line, " ") {
			pkg = name
		}
		if version, ok := strings.CutPrefix(strings.TrimSpace(line), "Candidate: "); ok && version != "(none)" {
			candidates[pkg] = version
		}
	}
	return candidates
}
