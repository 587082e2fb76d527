package meta

import (
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/broker/frame"
	"github.com/waysideos/wayside/services/vfs"
)

func text(s string) *string { return &s }

// TestSecuritySurvivesPowerCut makes every change of who may do what, and
// cuts the power at once.
func TestSecuritySurvivesPowerCut(t *testing.T) {
	for seed := range uint64(50) {
		fsys := vfs.NewCrashable(seed)
		st := open(t, fsys)
		read := ACL{Type: 2, Name: "t", Pattern: 3, Principal: "User:ann", Host: "*", Operation: 3, Permission: 3}
		write := read
		write.Operation = 4
		must(t, st.PutACLs([]ACL{read, write}))
		must(t, st.PutACLs([]ACL{read})) // again
		must(t, st.DeleteACLs([]ACL{write, {Name: "absent"}}))
		ann := Scram{User: "ann", Mechanism: 1, Iterations: 4096, Salt: []byte("s"), StoredKey: []byte("k"), ServerKey: []byte("v")}
		eve := ann
		eve.User = "eve"
		must(t, st.AlterScrams([]Scram{ann, eve}))
		eve.Deleted = true
		must(t, st.AlterScrams([]Scram{eve}))
		both := Quota{QuotaEntity{User: text("ann"), ClientID: text("")}, map[string]float64{"producer_byte_rate": 1000.5}}
		gone := Quota{QuotaEntity{IP: text("192.0.2.1")}, map[string]float64{"connection_creation_rate": 1}}
		must(t, st.PutQuotas([]Quota{both, gone}))
		must(t, st.PutQuotas([]Quota{{Entity: gone.Entity}}))

		again := open(t, fsys.Crash())
		if got := again.ACLs(); !gocmp.Equal(got, []ACL{read}) {
			t.Fatalf("seed %d: rules: %v", seed, got)
		}
		if got := again.Scrams(); !gocmp.Equal(got, []Scram{ann}) {
			t.Fatalf("seed %d: credentials: %v", seed, got)
		}
		if got := again.Quotas(); !gocmp.Equal(got, []Quota{both}) {
			t.Fatalf("seed %d: quotas: %v", seed, got)
		}
		if got := again.Quota(both.Entity); !gocmp.Equal(got, both.Values) {
			t.Fatalf("seed %d: quota: %v", seed, got)
		}
		must(t, again.Close())
	}
}

// TestSecuritySnapshot: a snapshot rebuilds all of it, in changes that are
// not too long to be read back.
func TestSecuritySnapshot(t *testing.T) {
	a := newState()
	worst := func(i int) string {
		return string(rune('a'+i%26)) + strings.Repeat("\x00", MaxACLText-10) + strings.Repeat("x", i%7)
	}
	for i := range 1500 {
		a.putACLs([]ACL{{Type: 2, Name: worst(i), Principal: worst(i / 26), Host: "*", Operation: int8(i % 100)}})
		a.alterScrams([]Scram{{User: worst(i), Mechanism: int8(i % 2), Salt: make([]byte, 1024)}})
		a.putQuotas([]Quota{{QuotaEntity{User: text(worst(i)), ClientID: text(worst(i / 26))}, map[string]float64{"x": float64(i)}}})
	}
	b := newState()
	must(t, a.Snapshot(func(p []byte) {
		if len(p) > frame.MaxPayload {
			t.Errorf("a change of %d bytes, at most %d can be read back", len(p), frame.MaxPayload)
		}
		must(t, b.Apply(p))
	}))
	if len(a.acls) < 100 || !gocmp.Equal(sortedACLs(a.acls), sortedACLs(b.acls)) || !gocmp.Equal(a.scram, b.scram, gocmp.AllowUnexported(scramKey{})) ||
		!gocmp.Equal(sortedQuotas(a.quotas), sortedQuotas(b.quotas)) {
		t.Error("the state differs after its own snapshot")
	}
}
