package replicator

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/waysideos/wayside/services/replicator/budget"
)

// LinkState is what a link says of itself when it is asked alone.
type LinkState struct {
	Name      string `json:"name"`
	Direction string `json:"direction"`
	Guarantee string `json:"guarantee,omitempty"` // "" before the destination was reached
	Up        bool   `json:"up"`
	Paused    bool   `json:"paused"`
	Error     string `json:"error,omitempty"`
	Lag       Lag    `json:"lag"`
	// WireBytes went to the centre and came from it since the start, both
	// ways, without those of TLS and TCP.
	WireBytes  int64            `json:"wire_bytes"`
	Used       budget.Used      `json:"used"`
	Rate       int64            `json:"rate"` // bytes a second that the budget allows now, 0: no limit
	Spent      bool             `json:"spent"`
	Partitions []PartitionState `json:"partitions"`
	Groups     []GroupOffset    `json:"groups,omitempty"`
}

// Lag is what the source has and the destination has not.
type Lag struct {
	Records int64   `json:"records"`
	Bytes   int64   `json:"bytes"`   // of keys and values, by the mean of what was carried
	Seconds float64 `json:"seconds"` // age of the oldest record that waits
	// CatchUp is in how many seconds nothing will wait, as things go; -1 if
	// it does not get less.
	CatchUp float64 `json:"catch_up"`
}

// String is for people.
func (l Lag) String() string {
	if l.Records == 0 {
		return "nothing"
	}
	s := fmt.Sprintf("%d records, about %d kB, the oldest of %s ago", l.Records, l.Bytes/1000, time.Duration(l.Seconds*float64(time.Second)).Round(time.Second))
	if l.CatchUp < 0 {
		return s + "; it does not get less"
	}
	return s + fmt.Sprintf("; carried in about %s", time.Duration(l.CatchUp*float64(time.Second)).Round(time.Second))
}

// PartitionState is how far a source partition is carried.
type PartitionState struct {
	Rule      string `json:"rule,omitempty"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	To        string `json:"to"`
	Next      int64  `json:"next"` // source offset of the first record that is not carried, -1 if unknown
	Dest      int64  `json:"dest"` // destination offset after the last carried record, -1 if unknown
	Error     string `json:"error,omitempty"`
	// Map holds, the newest last, a source offset, where to read on for it at
	// the destination, and how many records before it lie side by side at both ends.
	Map [][3]int64 `json:"map,omitempty"`
}

// Handle adds the links to the service's own API:
//
//	GET  /links               all links, as LinkState without partitions
//	GET  /links/NAME          one link
//	GET  /links/NAME/offsets?topic=T&partition=N&offset=OFFSET
//	                          where that lies at the destination, as a list of Translation
//	POST /links/NAME/pause    stop carrying; kept through restarts
//	POST /links/NAME/resume
//	POST /links/NAME/rewind?topic=T&partition=N&to=OFFSET|earliest|latest
func (r *Replicator) Handle(mux *http.ServeMux) {
	mux.HandleFunc("GET /links", func(w http.ResponseWriter, _ *http.Request) {
		all := []LinkState{}
		for _, l := range r.links {
			s := l.inspect()
			s.Partitions, s.Groups = nil, nil
			all = append(all, s)
		}
		answer(w, all)
	})
	with := func(do func(*link, *http.Request) error) http.HandlerFunc {
		return func(w http.ResponseWriter, req *http.Request) {
			l := r.find(w, req)
			if l == nil {
				return
			}
			err := do(l, req)
			switch {
			case errors.Is(err, errBusy):
				http.Error(w, err.Error(), http.StatusGatewayTimeout)
			case err != nil:
				http.Error(w, err.Error(), http.StatusConflict)
			default:
				answer(w, l.inspect())
			}
		}
	}
	mux.HandleFunc("GET /links/{name}", with(func(*link, *http.Request) error { return nil }))
	mux.HandleFunc("GET /links/{name}/offsets", r.handleOffsets)
	mux.HandleFunc("POST /links/{name}/pause", with(func(l *link, req *http.Request) error { return l.setPause(req.Context(), true) }))
	mux.HandleFunc("POST /links/{name}/resume", with(func(l *link, req *http.Request) error { return l.setPause(req.Context(), false) }))
	mux.HandleFunc("POST /links/{name}/rewind", with(func(l *link, req *http.Request) error {
		to, err := offsetWord(req.FormValue("to"))
		num := -1
		if s := req.FormValue("partition"); s != "" && err == nil {
			num, err = strconv.Atoi(s)
		}
		if err != nil {
			return fmt.Errorf("want to=earliest, latest or an offset, and partition=number: %w", err)
		}
		return l.rewind(req.Context(), req.FormValue("topic"), num, to)
	}))
}

// find is the link that a request names, or nil after it has said that there is none.
func (r *Replicator) find(w http.ResponseWriter, req *http.Request) *link {
	i := slices.IndexFunc(r.links, func(l *link) bool { return l.name == req.PathValue("name") })
	if i < 0 {
		http.Error(w, fmt.Sprintf("there is no link %q", req.PathValue("name")), http.StatusNotFound)
		return nil
	}
	return r.links[i]
}

func (r *Replicator) handleOffsets(w http.ResponseWriter, req *http.Request) {
	l := r.find(w, req)
	if l == nil {
		return
	}
	num, err1 := strconv.ParseInt(req.FormValue("partition"), 10, 32)
	offset, err2 := strconv.ParseUint(req.FormValue("offset"), 10, 63)
	if err := errors.Join(err1, err2); err != nil {
		http.Error(w, fmt.Sprintf("want topic=name, partition=number and offset=number: %v", err), http.StatusBadRequest)
		return
	}
	topic := req.FormValue("topic")
	all := l.translate(topic, int32(num), int64(offset))
	if len(all) == 0 {
		http.Error(w, fmt.Sprintf("link %s carries no topic %s/%d as records", l.name, topic, num), http.StatusNotFound)
		return
	}
	answer(w, all)
}

func offsetWord(s string) (int64, error) {
	switch s {
	case "earliest":
		return earliest, nil
	case "latest":
		return latest, nil
	}
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func (l *link) inspect() LinkState {
	up, _, centre, box := l.state.now()
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := LinkState{
		Name: l.name, Direction: l.cfg.Direction, Guarantee: l.promise, Up: up, Paused: l.paused, Lag: l.lag,
		WireBytes: l.wire.Load(), Used: l.budget.Used(now), Rate: l.budget.Rate(now), Spent: l.budget.Spent(now),
	}
	for _, err := range []error{box, centre} {
		if err != nil {
			s.Error = err.Error()
		}
	}
	for _, p := range l.parts {
		if p.rests() {
			continue
		}
		ps := PartitionState{Rule: p.lane.name, Topic: p.topic, Partition: p.num, To: p.to, Next: p.next, Dest: p.dest}
		for _, at := range p.pairs {
			ps.Map = append(ps.Map, at)
		}
		if p.err != nil {
			ps.Error = p.err.Error()
		}
		s.Partitions = append(s.Partitions, ps)
	}
	s.Groups = l.groupOffsets()
	slices.SortFunc(s.Partitions, func(a, b PartitionState) int {
		if c := strings.Compare(a.Rule+"\x00"+a.Topic, b.Rule+"\x00"+b.Topic); c != 0 {
			return c
		}
		return int(a.Partition - b.Partition)
	})
	return s
}
