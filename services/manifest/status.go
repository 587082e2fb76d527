package manifest

import "time"

// Paths of the running box that init and the services agree on.
const (
	RunDir      = "/run/wayside"
	InitSocket  = "/run/wayside/init.sock"  // HTTP: GET /status (Box), GET /update (Slots), and what Slots and ApplyProfile say may be asked
	SiteFile    = "/run/wayside/site.yaml"  // the effective, validated profile
	Advertised  = "/run/wayside/advertised" // host:port given by the hypervisor; absent elsewhere
	StatusSock  = "status.sock"             // below a service's RuntimeDirectory: GET /status (Report), /metrics
	StatusEntry = "/run"                    // RuntimeDirectory=x is StatusEntry/x
)

// Box is what init says of the machine; the answer to GET /status on
// InitSocket, as JSON.
type Box struct {
	Version string    `json:"version"` // release version of the running slot
	Board   string    `json:"board"`
	Slot    string    `json:"slot"`  // "root-a" or "root-b", from the firmware's words
	Epoch   int64     `json:"epoch"` // build epoch, Unix seconds
	Booted  time.Time `json:"booted"`
	Uptime  float64   `json:"uptime_s"`
	Kernel  string    `json:"kernel"`

	Verity   string `json:"verity"`   // "ok", "corrupted", "off"
	Watchdog string `json:"watchdog"` // identity of the hardware watchdog, "" if none

	SecureBoot string `json:"secure_boot"` // "on", "off", "setup mode"; "" without UEFI
	// PCRs are what firmware and stub measured into the TPM's SHA-256 bank,
	// hex by register; none without a TPM.
	PCRs map[int]string `json:"pcrs,omitempty"`
	// Encryption of state and data: "tpm", "recovery key" when the TPM did not
	// give the key, "locked" when nothing did, "off".
	Encryption string `json:"encryption"`

	Claim    *Claim      `json:"claim,omitempty"` // whose the box is; nil for one without
	Profile  Profile     `json:"profile"`
	Services []Service   `json:"services"`
	Network  []Interface `json:"network"`
	Disks    []Disk      `json:"disks"`
	Memory   Memory      `json:"memory"`
	Clock    Clock       `json:"clock"`
	Problems []string    `json:"problems,omitempty"` // best-effort boot steps that failed, in plain words
	// MissingModules are kernel modules that are wanted, by a device or by the
	// board, and that this release does not hold or its kernel does not take.
	MissingModules []string `json:"missing_modules,omitempty"`
}

// Claim is the one in force.
type Claim struct {
	Name   string    `json:"name"`
	Issued time.Time `json:"issued"`
}

// Profile says which site profile is in force and what was wrong with a
// newer one, if any.
type Profile struct {
	Site   string   `json:"site"`
	Source string   `json:"source"` // "boot partition", "applied", "last good", "built in"
	Errors []string `json:"errors,omitempty"`
	// Change is the last one that was made, or tried, since the start.
	Change *ProfileChange `json:"change,omitempty"`
}

// States of a ProfileChange.
const (
	ProfileTrial = "trial"      // in force, and not kept yet
	ProfileKept  = "kept"       // in force, also after a restart
	ProfileBack  = "taken back" // the one before is in force again
)

// ProfileChange is another profile for a box that runs.
type ProfileChange struct {
	Digest string    `json:"digest"` // SHA-256 of its text, hex
	Site   string    `json:"site"`
	State  string    `json:"state"`
	Time   time.Time `json:"time"` // of the state
	// Remaining is what is left of the trial, in seconds, after which init takes
	// the profile back.
	Remaining float64 `json:"remaining_s,omitempty"`
	// Services were started anew for it. Device connectors follow by themselves.
	Services []string `json:"services,omitempty"`
	// NextStart names the parts that the box follows only from its next start on.
	NextStart []string `json:"next_start,omitempty"`
	Network   bool     `json:"network,omitempty"` // addresses and routes may be others
	Reason    string   `json:"reason,omitempty"`  // why it was taken back
}

// ApplyProfile is the body of POST /site/apply on InitSocket: root or
// UpdaterUser has the box run by another profile, on trial. POST /site/keep,
// without a body, ends the trial well, /site/back (Fail) badly. Answers are as
// for Slots.
type ApplyProfile struct {
	File string `json:"file"` // what messages call it
	Text []byte `json:"text"`
	// Back applies the text that was in force before the one that is kept now.
	Back bool `json:"back,omitempty"`
}

// Service is one supervised unit.
type Service struct {
	Name     string    `json:"name"`
	State    string    `json:"state"` // see init/supervise
	Ready    bool      `json:"ready"`
	Status   string    `json:"status,omitempty"` // STATUS= of sd_notify
	PID      int       `json:"pid,omitempty"`
	Restarts int       `json:"restarts"`
	Since    time.Time `json:"since"`
	LastExit string    `json:"last_exit,omitempty"` // "exit status 1", "signal: killed (watchdog)", …
	Memory   int64     `json:"memory_bytes,omitempty"`
}

// Interface is one network interface.
type Interface struct {
	Name      string   `json:"name"`
	Up        bool     `json:"up"`
	Addresses []string `json:"addresses,omitempty"` // CIDR
	Gateway   string   `json:"gateway,omitempty"`
	Source    string   `json:"source,omitempty"`  // "dhcp4", "static", …
	Uplink    bool     `json:"uplink,omitempty"`  // the default route goes by it
	Problem   string   `json:"problem,omitempty"` // why nothing comes of it, if the box knows
}

// Disk is one mounted writable file system.
type Disk struct {
	Mount string `json:"mount"`
	Total int64  `json:"total_bytes"`
	Free  int64  `json:"free_bytes"`
}

// Memory is the machine's, as /proc/meminfo has it.
type Memory struct {
	Total     int64 `json:"total_bytes"`
	Available int64 `json:"available_bytes"` // without swapping or losing hot cache
}

// Clock says how far the box's time can be trusted.
type Clock struct {
	Synchronised bool      `json:"synchronised"`
	Source       string    `json:"source"` // "ntp:<server>", "rtc", "floor"
	Floor        time.Time `json:"floor"`
}

// Report is what a service says of itself; the answer to GET /status on its
// StatusSock, as JSON.
type Report struct {
	Name    string   `json:"name"`
	OK      bool     `json:"ok"`
	Outside bool     `json:"outside,omitempty"` // what OK lacks may lie outside the box: a network out of reach
	Summary string   `json:"summary"`           // one line for the technician
	Facts   []Fact   `json:"facts,omitempty"`
	Flows   []Flow   `json:"flows,omitempty"`
	Links   []Link   `json:"links,omitempty"`
	Devices []Device `json:"devices,omitempty"`
}

// Device is one connector of the service connect.
type Device struct {
	Name     string    `json:"name"`
	Protocol string    `json:"protocol"`
	State    string    `json:"state"` // starting, up, trouble, down or stopped
	Since    time.Time `json:"since"`
	Detail   string    `json:"detail,omitempty"`
	Error    string    `json:"error,omitempty"` // the last, while it lasts
	Records  int64     `json:"records"`         // in the broker, since the start
	Bytes    int64     `json:"bytes"`           // of their values
	Dead     int64     `json:"dead_letters"`
	Aside    int64     `json:"refused_dead_letters"` // that the broker refuses, kept on the box
	Waiting  int64     `json:"waiting"`              // records that the broker does not have yet
	OnDisk   int64     `json:"on_disk"`              // of these in the spool
	Dropped  int64     `json:"dropped"`              // records lost since the spool was full
	Commands int64     `json:"commands"`             // answered
	Restarts int64     `json:"restarts"`             // times that the device was lost
}

// Fact is one labelled value for the status page.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Flow is one stream of records through a service.
type Flow struct {
	From    string `json:"from"`
	To      string `json:"to"`
	Records int64  `json:"records"`
	Bytes   int64  `json:"bytes"`
}

// Link is one uplink of the replicator.
type Link struct {
	Name  string    `json:"name"`
	Up    bool      `json:"up"`
	Since time.Time `json:"since"`
	Lag   int64     `json:"lag_records"`
	Error string    `json:"error,omitempty"`
}
