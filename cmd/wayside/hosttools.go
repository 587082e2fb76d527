package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/waysideos/wayside/qemu"
)

// hostTool is a program that Wayside calls on the engineer's machine.
type hostTool struct {
	name     string
	packages []string // Debian packages with it; the first that apt knows is taken
	test     bool     // needed by `make test` only
	min      int      // lowest major version; 0: any will do
	version  []string // arguments that print the version; needed with min
}

// hostTools is every program that is called anywhere in this tree and is not
// on every Debian (a test looks for them).
var hostTools = []hostTool{
	// QEMU 7.2 crashes a third of all boots of kernel 6.12 under TCG.
	{name: "qemu-system-x86_64", packages: []string{"qemu-system-x86"}, min: qemu.MinVersion, version: []string{"--version"}},
	{name: "qemu-system-aarch64", packages: []string{"qemu-system-arm"}, min: qemu.MinVersion, version: []string{"--version"}, test: true},
	{name: "qemu-img", packages: []string{"qemu-utils"}},
	{name: "qemu-io", packages: []string{"qemu-utils"}, test: true},
	{name: "cpio", packages: []string{"cpio"}, test: true},
	{name: "zstd", packages: []string{"zstd"}, test: true},
	{name: "pgrep", packages: []string{"procps"}, test: true},
	{name: "kcat", packages: []string{"kcat"}, test: true},
	{name: "mosquitto_pub", packages: []string{"mosquitto-clients"}, test: true},
	{name: "mosquitto_sub", packages: []string{"mosquitto-clients"}, test: true},
	{name: "mosquitto", packages: []string{"mosquitto"}, test: true},
	{name: "mosquitto_passwd", packages: []string{"mosquitto"}, test: true},
	{name: "curl", packages: []string{"curl"}, test: true},
	{name: "bmaptool", packages: []string{"bmap-tools"}, test: true},
	{name: "sgdisk", packages: []string{"gdisk"}, test: true},
	{name: "fsck.vfat", packages: []string{"dosfstools"}, test: true},
	{name: "mcopy", packages: []string{"mtools"}, test: true},
	{name: "mdel", packages: []string{"mtools"}, test: true},
	{name: "mmd", packages: []string{"mtools"}, test: true},
	{name: "fsck.erofs", packages: []string{"erofs-utils"}, test: true},
	{name: "e2fsck", packages: []string{"e2fsprogs"}, test: true},
	{name: "veritysetup", packages: []string{"cryptsetup-bin"}, test: true},
	{name: "cryptsetup", packages: []string{"cryptsetup-bin"}, test: true},
	{name: "swtpm", packages: []string{"swtpm"}, test: true},
	{name: "sbsign", packages: []string{"sbsigntool"}, test: true},
	{name: "sbverify", packages: []string{"sbsigntool"}, test: true},
	{name: "openssl", packages: []string{"openssl"}, test: true},
	{name: "gcc", packages: []string{"gcc"}, test: true},
	{name: "node", packages: []string{"nodejs"}, test: true},
	{name: "as", packages: []string{"binutils"}, test: true},
	{name: "ld", packages: []string{"binutils"}, test: true},
	{name: "objcopy", packages: []string{"binutils"}, test: true},
	{name: "aarch64-linux-gnu-as", packages: []string{"binutils-aarch64-linux-gnu"}, test: true},
	{name: "aarch64-linux-gnu-objcopy", packages: []string{"binutils-aarch64-linux-gnu"}, test: true},
	{
		name: "java", min: 17, version: []string{"-version"}, test: true,
		packages: []string{"openjdk-21-jdk-headless", "openjdk-17-jdk-headless", "default-jdk-headless"},
	},
	{name: "mvn", packages: []string{"maven"}, test: true},
	{name: "python3", packages: []string{"python3-venv"}, test: true},
	{name: "protoc", packages: []string{"protobuf-compiler"}, test: true},
	{name: "sshd", packages: []string{"openssh-server"}, test: true},
	{name: "rsyslogd", packages: []string{"rsyslog"}, test: true},
	{name: "logger", packages: []string{"bsdutils"}, test: true},
	{name: "snmpd", packages: []string{"snmpd"}, test: true},
	{name: "snmptrap", packages: []string{"snmp"}, test: true},
}

// backports says where a distribution of that ID and VERSION_ID
// (os-release(5)) keeps newer versions of these packages.
var backports = []struct {
	distribution string
	suite        string
	packages     []string
}{
	{"debian 12", "bookworm-backports", []string{"qemu-system-x86", "qemu-system-arm", "qemu-utils"}},
}

// toolStatus is how one tool stands on this machine.
type toolStatus struct {
	Tool    string `json:"tool"`
	Package string `json:"package"` // the first of its packages
	For     string `json:"for"`     // "run" or "test"
	Need    int    `json:"need,omitempty"`
	Path    string `json:"path,omitempty"`
	Version string `json:"version,omitempty"`
	State   string `json:"state"` // "ok", "missing", "too old"

	tool hostTool
}

// neededTools are the tools for "run", or all of them for "test".
func neededTools(purpose string) []hostTool {
	var tools []hostTool
	for _, t := range hostTools {
		if !t.test || purpose == "test" {
			tools = append(tools, t)
		}
	}
	return tools
}

// checkTools looks at every tool; it runs only those whose version matters.
func checkTools(ctx context.Context, tools []hostTool) []toolStatus {
	var all []toolStatus
	for _, t := range tools {
		path := findTool(t.name)
		version := ""
		if path != "" && t.min > 0 {
			out, _ := exec.CommandContext(ctx, path, t.version...).CombinedOutput()
			version = printedVersion(string(out))
		}
		all = append(all, judge(t, path, version))
	}
	return all
}

// judge says how a tool stands that was found at path ("" if it was not) and
// printed that version.
func judge(t hostTool, path, version string) toolStatus {
	s := toolStatus{
		Tool: t.name, Package: t.packages[0], For: "run", Need: t.min,
		Path: path, Version: version, State: "ok", tool: t,
	}
	if t.test {
		s.For = "test"
	}
	switch {
	case path == "":
		s.State = "missing"
	case major(version) < t.min:
		s.State = "too old"
	}
	return s
}

// versionLine is how QEMU and Java both put it. Java may print other numbers
// before, of options it picked up.
var versionLine = regexp.MustCompile(`version "?(\d+(?:\.\d+)*)`)

func printedVersion(out string) string {
	if m := versionLine.FindStringSubmatch(out); m != nil {
		return m[1]
	}
	return ""
}

// major is the first number of a version, after Debian's epoch; 0 if there is
// none.
func major(version string) int {
	if _, after, ok := strings.Cut(version, ":"); ok {
		version = after
	}
	end := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(version)
	}
	n, _ := strconv.Atoi(version[:end])
	return n
}

// findTool also looks where an ordinary user's PATH often does not lead.
func findTool(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin"} {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && !st.IsDir() && st.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}
