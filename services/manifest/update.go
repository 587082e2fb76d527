package manifest

import "time"

// UpdateSock is the updater's own API, below its RuntimeDirectory: GET
// /update gives an Update; POST /refresh, /prepare, /activate, /reboot and
// /retry do what they say and answer with an Update, or 4xx and 5xx with the
// reason as text. GET /repo/ is a release repository for other boxes.
const UpdateSock = "api.sock"

// UpdateRepo is where the status page offers a box's repository to others.
const UpdateRepo = "/update/repo/"

// Phases of an update, in the order in which a good one goes through them.
const (
	UpdateIdle      = "idle"      // nothing newer is known, or nothing is to be done about it
	UpdateAvailable = "available" // there is a release that may be prepared
	UpdatePreparing = "preparing" // it is being downloaded and verified
	UpdatePrepared  = "prepared"  // it is in the other slot, verified
	UpdatePending   = "pending"   // the next reboot starts it
	UpdateTrial     = "trial"     // it runs and has to prove itself
)

// Update is what the updater says of itself, as JSON.
type Update struct {
	Phase   string `json:"phase"`
	Running string `json:"running"` // version
	Counter uint64 `json:"counter"`
	// Available is the release that prepare would take; nil if none is newer.
	Available *UpdateRelease `json:"available,omitempty"`
	Prepared  *UpdateRelease `json:"prepared,omitempty"` // also while it is pending
	// Refused are releases that may not be installed, each with the reason.
	Refused []Fact `json:"refused,omitempty"`

	Step  string `json:"step,omitempty"` // what is being done now
	Done  int64  `json:"done_bytes,omitempty"`
	Total int64  `json:"total_bytes,omitempty"`
	// Fetched is what came from sources since the service started, in bytes.
	Fetched int64 `json:"fetched_bytes"`

	Auto    string         `json:"auto"`             // off, prepare, install
	Window  string         `json:"window,omitempty"` // hours, with their time zone
	Waits   string         `json:"waits,omitempty"`  // why the next step is not taken by itself
	Sources []UpdateSource `json:"sources,omitempty"`
	Problem string         `json:"problem,omitempty"` // of the last verb or round, "" when it went well

	Checks []Check  `json:"checks,omitempty"` // of the health gate, during a trial
	Trial  *Trial   `json:"trial,omitempty"`
	Last   *Outcome `json:"last,omitempty"` // how the latest trial ended
	// Blame says of a failed trial whether the version is bad or the world
	// was: "version", "world", "" while that is not clear.
	Blame string `json:"blame,omitempty"`
}

// UpdateRelease is one release that a source offers.
type UpdateRelease struct {
	Version string `json:"version"`
	Counter uint64 `json:"counter"`
	Notes   string `json:"notes,omitempty"`
	Bytes   int64  `json:"bytes"` // of a full download
}

// UpdateSource is one place that releases come from.
type UpdateSource struct {
	Name    string    `json:"name"`
	OK      bool      `json:"ok"`
	Checked time.Time `json:"checked"`
	Error   string    `json:"error,omitempty"`
}
