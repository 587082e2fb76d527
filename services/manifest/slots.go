package manifest

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// Levels of on-disk formats. One is added when a format changes such that the
// release before could not read it. Services write nothing of a newer level
// than FormatLevelFile says: during a trial that is the previous release's, so
// that it can read everything when the trial fails.
const (
	LevelFirst        = 1
	LevelTransactions = 2 // partition logs that have seen a transaction (docs/formats/broker-log.md)

	// FormatLevel is the newest that this release's services write.
	FormatLevel = LevelTransactions
)

// FormatLevelFile holds the level to write at, a decimal number. Init writes it
// before services start, and anew when a version is committed. A service that
// runs anywhere but on a box is not told of it and writes what it knows.
const FormatLevelFile = RunDir + "/format-level"

// ReadFormatLevel reads the level from a FormatLevelFile. One that is not there
// or not readable says nothing of what the release before can read: then it is
// the level that every release can.
func ReadFormatLevel(file string) int {
	b, err := os.ReadFile(file)
	if err != nil {
		return LevelFirst
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return LevelFirst
	}
	return max(LevelFirst, min(n, FormatLevel))
}

// UpdaterUser is the account that may, besides root, change what boots next.
const UpdaterUser = "updater"

// ConnectUser is the account of the device connectors, which may write to a
// removable disk that carries a folder that the profile names.
const ConnectUser = "connect"

// RemovableDir holds a folder for each removable disk that is plugged in and
// carries a folder wayside-repo, or one that a connector writes to:
// RemovableDir/<kernel name>/wayside-repo, mounted read-only but for the latter.
const RemovableDir = "/run/wayside/removable"

// Slots is what init says of the versions on the box; the answer to GET
// /update on InitSocket, as JSON.
//
// Changes are asked for by root or UpdaterUser, all with a JSON body: POST
// /update/activate (Activate), /update/commit (Commit), /update/fail (Fail),
// /update/retry (Retry), and without a body /update/cancel and /reboot. 2xx is
// done, 4xx refused for good with the reason as text, 5xx worth another try.
// Each may be asked again if no answer came.
type Slots struct {
	Running Slot `json:"running"`
	Other   Slot `json:"other"`
	// Trial is the running version's, until it is committed or failed; nil
	// when the running version is committed.
	Trial *Trial `json:"trial,omitempty"`
	// Pending is what boots next on trial; nil if the running version does.
	Pending *Activate `json:"pending,omitempty"`
	// Last is how the latest trial ended.
	Last *Outcome `json:"last,omitempty"`
	// Failed versions are refused until Retry, oldest first.
	Failed []Outcome `json:"failed,omitempty"`
	// Floor is the highest release counter that was ever committed. Lower
	// ones need Activate.Downgrade.
	Floor uint64 `json:"floor"`
	// FormatLevel is what FormatLevelFile says.
	FormatLevel int `json:"format_level"`
	// Boot lists the kernel images on the boot partition in the order in
	// which the loader tries them.
	Boot []BootEntry `json:"boot,omitempty"`
	// Removable are the folders of RemovableDir that are there now.
	Removable []string `json:"removable,omitempty"`
	Problems  []string `json:"problems,omitempty"`
}

// Slot is one root partition and the version it belongs to.
type Slot struct {
	Role     string `json:"role"`                // "root-a", "root-b"
	Device   string `json:"device"`              // node; the running one readable, the other writable by UpdaterUser
	Size     int64  `json:"size_bytes"`          // of the partition
	Version  string `json:"version,omitempty"`   // "" when no kernel image is for what it holds
	Counter  uint64 `json:"counter,omitempty"`   // release counter
	RootHash string `json:"root_hash,omitempty"` // hex
}

// Trial is a boot that is not committed yet.
type Trial struct {
	Version   string  `json:"version"`
	TriesLeft int     `json:"tries_left"`  // boots that the loader still gives it
	TriesDone int     `json:"tries_done"`  // this one included
	Remaining float64 `json:"remaining_s"` // until init fails it
	// Deadline is Remaining as a time. The clock may be set meanwhile.
	Deadline time.Time `json:"deadline"`
}

// BootEntry is one kernel image on the boot partition.
type BootEntry struct {
	File      string `json:"file"` // below EFI/Linux
	Version   string `json:"version"`
	Size      int64  `json:"size_bytes"`
	Counted   bool   `json:"counted"`    // on trial, or bad when no tries are left
	TriesLeft int    `json:"tries_left"` // if counted
}

// Activate asks for a prepared version to be booted, on trial, from the next
// reboot on. Init reads the staged kernel image and checks it against this.
type Activate struct {
	Version  string `json:"version"`
	Counter  uint64 `json:"counter"`
	RootHash string `json:"root_hash"` // hex
	// Downgrade is the signed permission to go below the floor.
	Downgrade bool `json:"downgrade,omitempty"`
	// BootLoader has the boot loader that the release carries installed once it
	// is committed.
	BootLoader bool `json:"boot_loader,omitempty"`
}

// Commit says that the trial keeps the product's promise, and why.
type Commit struct {
	Checks []Check `json:"checks"`
}

// Check is one question of the health gate.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
}

// Fail says that the trial does not, and asks for the version before.
type Fail struct {
	Check  string `json:"check"`  // name of the check that decided
	Reason string `json:"reason"` // one line
	Detail string `json:"detail,omitempty"`
}

// Retry makes a failed version forgotten, so that it may be tried again.
type Retry struct {
	Version string `json:"version"`
}

// Outcome is how a trial ended.
type Outcome struct {
	Version   string    `json:"version"`
	Counter   uint64    `json:"counter"`
	RootHash  string    `json:"root_hash,omitempty"`
	From      string    `json:"from,omitempty"` // version before the trial
	Committed bool      `json:"committed"`
	Time      time.Time `json:"time"`
	// Check and Reason of a failed trial, in the updater's or init's words;
	// Check is "init" when init decided, "boot" when the version never said
	// anything.
	Check  string  `json:"check,omitempty"`
	Reason string  `json:"reason,omitempty"`
	Detail string  `json:"detail,omitempty"`
	Checks []Check `json:"checks,omitempty"` // of a commit

	Tries      int      `json:"tries"`                 // boots that were used
	Reached    string   `json:"reached,omitempty"`     // furthest step of its boots that is known
	ResetCause string   `json:"reset_cause,omitempty"` // "watchdog", "kernel panic", "" if not known
	Log        []string `json:"log,omitempty"`         // last lines of kernel and services in its last boot
}
