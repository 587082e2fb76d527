package auth

import (
	"fmt"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/meta"
)

const (
	opAll      = kmsg.ACLOperationAll
	opRead     = kmsg.ACLOperationRead
	opWrite    = kmsg.ACLOperationWrite
	opDescribe = kmsg.ACLOperationDescribe
	topics     = kmsg.ACLResourceTypeTopic
	groups     = kmsg.ACLResourceTypeGroup
	literal    = kmsg.ACLResourcePatternTypeLiteral
	prefix     = kmsg.ACLResourcePatternTypePrefixed
)

// acl allows ann something on a topic, unless edited.
func acl(name string, op kmsg.ACLOperation, edit ...func(*meta.ACL)) meta.ACL {
	a := meta.ACL{Type: int8(topics), Name: name, Pattern: int8(literal), Principal: "User:ann", Host: "*",
		Operation: int8(op), Permission: int8(kmsg.ACLPermissionTypeAllow)}
	for _, e := range edit {
		e(&a)
	}
	return a
}

func deny(a *meta.ACL)     { a.Permission = int8(kmsg.ACLPermissionTypeDeny) }
func prefixOf(a *meta.ACL) { a.Pattern = int8(prefix) }
func anybody(a *meta.ACL)  { a.Principal = Everybody }
func host(h string) func(*meta.ACL) {
	return func(a *meta.ACL) { a.Host = h }
}

func TestAllowed(t *testing.T) {
	type ask struct {
		op   kmsg.ACLOperation
		name string
		want bool
	}
	for name, tt := range map[string]struct {
		acls   []meta.ACL
		policy Policy
		asks   []ask
	}{
		"nothing is refused":      {nil, Policy{}, []ask{{opRead, "a", false}}},
		"or allowed, if so said":  {nil, Policy{AllowIfNone: true}, []ask{{opRead, "a", true}}},
		"but not beside a rule":   {[]meta.ACL{acl("a", opWrite, anybody)}, Policy{AllowIfNone: true}, []ask{{opRead, "a", false}, {opRead, "b", true}}},
		"nor beside a prefix":     {[]meta.ACL{acl("a", opWrite, prefixOf)}, Policy{AllowIfNone: true}, []ask{{opRead, "abc", false}, {opRead, "b", true}}},
		"super":                   {[]meta.ACL{acl("a", opAll, deny, anybody)}, Policy{SuperUsers: []string{"User:ann"}}, []ask{{opRead, "a", true}, {opRead, "b", true}}},
		"literal":                 {[]meta.ACL{acl("a", opRead)}, Policy{}, []ask{{opRead, "a", true}, {opWrite, "a", false}, {opRead, "ab", false}}},
		"everything":              {[]meta.ACL{acl("a", opAll)}, Policy{}, []ask{{opRead, "a", true}, {opWrite, "a", true}}},
		"all topics":              {[]meta.ACL{acl("*", opRead)}, Policy{}, []ask{{opRead, "a", true}, {opRead, "*", true}}},
		"prefix":                  {[]meta.ACL{acl("a.", opRead, prefixOf)}, Policy{}, []ask{{opRead, "a.b", true}, {opRead, "a.", true}, {opRead, "a", false}}},
		"star is no prefix":       {[]meta.ACL{acl("a*", opRead)}, Policy{}, []ask{{opRead, "ab", false}, {opRead, "a*", true}}},
		"prefixed star":           {[]meta.ACL{acl("*", opRead, prefixOf)}, Policy{}, []ask{{opRead, "ab", false}, {opRead, "*b", true}}},
		"anybody":                 {[]meta.ACL{acl("a", opRead, anybody)}, Policy{}, []ask{{opRead, "a", true}}},
		"deny first":              {[]meta.ACL{acl("a", opRead), acl("*", opRead, deny)}, Policy{}, []ask{{opRead, "a", false}, {opDescribe, "a", true}}},
		"deny by prefix":          {[]meta.ACL{acl("*", opAll), acl("secret.", opAll, deny, prefixOf)}, Policy{}, []ask{{opRead, "secret.a", false}, {opRead, "a", true}}},
		"read implies describe":   {[]meta.ACL{acl("a", opRead)}, Policy{}, []ask{{opDescribe, "a", true}}},
		"write implies describe":  {[]meta.ACL{acl("a", opWrite)}, Policy{}, []ask{{opDescribe, "a", true}}},
		"describe implies naught": {[]meta.ACL{acl("a", opDescribe)}, Policy{}, []ask{{opRead, "a", false}}},
		"alterconfigs implies": {[]meta.ACL{acl("a", kmsg.ACLOperationAlterConfigs)}, Policy{},
			[]ask{{kmsg.ACLOperationDescribeConfigs, "a", true}, {opDescribe, "a", false}}},
		"denied read leaves describe": {[]meta.ACL{acl("a", opDescribe), acl("a", opRead, deny)}, Policy{}, []ask{{opDescribe, "a", true}}},
		"host":                        {[]meta.ACL{acl("a", opRead, host("192.0.2.1"))}, Policy{}, []ask{{opRead, "a", true}}},
		"other host":                  {[]meta.ACL{acl("a", opRead, host("192.0.2.2"))}, Policy{}, []ask{{opRead, "a", false}}},
		"deny elsewhere":              {[]meta.ACL{acl("a", opRead), acl("a", opRead, deny, host("192.0.2.2"))}, Policy{}, []ask{{opRead, "a", true}}},
		"somebody else":               {[]meta.ACL{acl("a", opRead, func(a *meta.ACL) { a.Principal = "User:bob" })}, Policy{}, []ask{{opRead, "a", false}}},
		"other kind":                  {[]meta.ACL{acl("a", opRead, func(a *meta.ACL) { a.Type = int8(groups) })}, Policy{}, []ask{{opRead, "a", false}}},
	} {
		a := NewAuthorizer(tt.policy, tt.acls)
		s := a.Subject("User:ann", "192.0.2.1")
		for range 2 { // the second time from memory
			for _, q := range tt.asks {
				if got := a.Allowed(s, q.op, topics, q.name); got != q.want {
					t.Errorf("%s: %s on %s: got %v, want %v", name, q.op, q.name, got, q.want)
				}
			}
		}
	}
}

func TestAllowedSomewhere(t *testing.T) {
	for name, tt := range map[string]struct {
		acls   []meta.ACL
		policy Policy
		want   bool
	}{
		"nowhere":              {nil, Policy{}, false},
		"without rules":        {nil, Policy{AllowIfNone: true}, true},
		"one":                  {[]meta.ACL{acl("a", opWrite)}, Policy{}, true},
		"all":                  {[]meta.ACL{acl("*", opWrite)}, Policy{}, true},
		"prefix":               {[]meta.ACL{acl("a", opWrite, prefixOf)}, Policy{}, true},
		"read only":            {[]meta.ACL{acl("a", opRead)}, Policy{}, false},
		"denied there":         {[]meta.ACL{acl("a", opWrite), acl("a", opWrite, deny)}, Policy{}, false},
		"denied everywhere":    {[]meta.ACL{acl("a", opWrite), acl("*", opWrite, deny)}, Policy{AllowIfNone: true}, false},
		"prefix denied longer": {[]meta.ACL{acl("a", opWrite, prefixOf), acl("ab", opWrite, prefixOf, deny)}, Policy{}, true},
		"prefix denied":        {[]meta.ACL{acl("ab", opWrite, prefixOf), acl("a", opWrite, prefixOf, deny)}, Policy{}, false},
	} {
		a := NewAuthorizer(tt.policy, tt.acls)
		if got := a.AllowedSomewhere(a.Subject("User:ann", "::1"), opWrite, topics); got != tt.want {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
}

// TestRulesChange: a connection that is open is judged by the new rules at
// once, also while others ask.
func TestRulesChange(t *testing.T) {
	a := NewAuthorizer(Policy{}, nil)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for i := range 4 {
		s := a.Subject("User:ann", fmt.Sprint("192.0.2.", i))
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
					a.Allowed(s, opRead, topics, fmt.Sprint("t", n%(2*maxKnown)))
				}
			}
		})
	}
	s := a.Subject("User:ann", "192.0.2.1")
	for i := range 100 {
		a.Set([]meta.ACL{acl("a", opRead)})
		if !a.Allowed(s, opRead, topics, "a") {
			t.Fatalf("round %d: refused although allowed", i)
		}
		a.Set([]meta.ACL{acl("a", opRead), acl("a", opAll, deny, host("192.0.2.1"))})
		if a.Allowed(s, opRead, topics, "a") {
			t.Fatalf("round %d: allowed although denied", i)
		}
	}
	close(stop)
	wg.Wait()
	if got, want := a.Operations(a.Subject("User:ann", "192.0.2.2"), topics, "a"), int32(1<<opRead|1<<opDescribe); got != want {
		t.Errorf("operations: got %b, want %b", got, want)
	}
}

func BenchmarkAllowed(b *testing.B) {
	a := NewAuthorizer(Policy{}, []meta.ACL{acl("a", opWrite, prefixOf)})
	s := a.Subject("User:ann", "192.0.2.1")
	b.ReportAllocs()
	for b.Loop() {
		a.Allowed(s, opWrite, topics, "abcdefgh")
	}
}
