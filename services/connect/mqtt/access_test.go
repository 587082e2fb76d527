package mqtt

import (
	"strings"
	"testing"
)

func TestAccess(t *testing.T) {
	a := access{
		{User: "gateway", Publish: []string{"#"}, Subscribe: []string{"#", "$SYS/#"}},
		{User: "*", Publish: []string{"till/{user}/#", "raw/{client}"}, Subscribe: []string{"cmd/{client}/+", "all/#"}},
		{User: "anonymous", Publish: []string{"hello"}},
	}
	for _, tc := range []struct {
		user, client, topic string
		subscribe, want     bool
	}{
		{"gateway", "g", "any/thing", false, true},
		{"gateway", "g", "any/#", true, true},
		{"gateway", "g", "$SYS/broker/#", true, true},
		{"till-7", "c", "till/till-7/1", false, true},
		{"till-7", "c", "till/till-8/1", false, false},
		{"till-7", "c", "raw/c", false, true},
		{"till-7", "c", "raw/d", false, false},
		{"till-7", "c", "cmd/c/set", true, true},
		{"till-7", "c", "cmd/c/+", true, true},
		{"till-7", "c", "cmd/+/set", true, false},
		{"till-7", "c", "cmd/c/#", true, false},
		{"till-7", "c", "cmd/#", true, false},
		{"till-7", "c", "#", true, false},
		{"till-7", "c", "all", true, true},
		{"till-7", "c", "all/#", true, true},
		{"till-7", "c", "$share/g/all/x", true, true},
		{"till-7", "c", "$share/g/cmd/d/x", true, false},
		{"till-7", "c", "$SYS/x", true, false},
		// A name that is a wildcard, or several levels, is nobody's.
		{"till-7", "+", "cmd/+/x", true, false},
		{"+", "c", "till/+/x", false, false},
		{"a/b", "c", "till/a/b/x", false, false},
		{"", "", "raw/", false, false},
		{"", "c", "hello", false, true},
		{"till-7", "c", "hello", false, false},
	} {
		may := a.mayPublish
		if tc.subscribe {
			may = a.maySubscribe
		}
		if got := may(tc.client, tc.user, tc.topic); got != tc.want {
			t.Errorf("user %q, client %q, %s (subscribe %v): %v, want %v", tc.user, tc.client, tc.topic, tc.subscribe, got, tc.want)
		}
	}
	if !access(nil).maySubscribe("c", "", "#") {
		t.Error("without rules something is forbidden")
	}
}

const mosquittoLine = `a:$7$101$qLrHHr1Rx0t2SgAD$GG3KRrolbNEhKPnprZNWVi48R1h4DL0k2ty+PqPeETxMDTzYrVY20SpqLBOw7rb/VSyJRFwQLve+1/+RIj61sA==`

// What mosquitto_passwd has written, what SCRAM makes of a password
// (RFC 7677's example is user:pencil), and a password itself.
const userLines = `# comment

plain:open:sesame
scram:SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=
MOSQUITTO
`

func TestUsers(t *testing.T) {
	u, err := parseUsers(strings.ReplaceAll(userLines, "MOSQUITTO", mosquittoLine))
	if err != nil {
		t.Fatal(err)
	}
	for name, password := range map[string]string{"plain": "open:sesame", "scram": "pencil", "a": "open sesame"} {
		if !u.check(name, []byte(password)) {
			t.Errorf("%s: the right password is refused", name)
		}
		if u.check(name, []byte(password+"x")) || u.check(name, nil) {
			t.Errorf("%s: a wrong password is taken", name)
		}
	}
	if u.check("nobody", nil) {
		t.Error("an unknown user is let in")
	}
	for _, bad := range []string{
		"a", ":x", "a:", "a:x\na:y", "a:$7$", "a:$7$0$AAAA$AAAA", "a:$7$101$AAAA$AAAA", "a:$7$99999999999$AA==$AA==",
		"a:$6$x", "a:SCRAM-SHA-256$1:x", "a:SCRAM-SHA-512$4096:AA==$AA==:AA==",
	} {
		if _, err := parseUsers(bad); err == nil {
			t.Errorf("%q is taken", bad)
		} else if strings.Contains(err.Error(), "AAAA") {
			t.Errorf("the error tells the secret: %v", err)
		}
	}
}

func FuzzUsers(f *testing.F) {
	f.Add(userLines)
	f.Add(mosquittoLine)
	f.Add("a:$7$2$AA==$AA==")
	f.Fuzz(func(t *testing.T, text string) {
		if u, err := parseUsers(text); err == nil {
			for name := range u {
				if name == "" {
					t.Error("a user without a name")
				}
			}
		}
	})
}
