package server

import (
	"context"
	"fmt"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/auth"
	"github.com/waysideos/wayside/services/broker/meta"
)

// AlterUserScramCredentials: sets and removes what users prove their password
// by; answered when it is durable and in force. The password itself is kept
// nowhere.
//
// Version 0 (KIP-554). Connections that are open stay so.
var alterUserScramAPI = api{key: kmsg.AlterUserSCRAMCredentials, min: 0, max: 0, handle: typed(handleAlterUserScram)}

// maxScrams is how many credentials there may be.
const maxScrams = 10000

func handleAlterUserScram(s *Server, _ context.Context, r *request, req *kmsg.AlterUserSCRAMCredentialsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.AlterUserSCRAMCredentialsResponse)
	a := scramChanges{s: s, errs: map[string]error{}, seen: map[scramName]bool{}}
	a.refused = s.refused(r, kmsg.ACLOperationAlter, kmsg.ACLResourceTypeCluster, clusterName)
	s.scramMu.Lock()
	defer s.scramMu.Unlock()
	for _, d := range req.Deletions {
		a.add(meta.Scram{User: d.Name, Mechanism: d.Mechanism, Deleted: true}, a.checkDeletion(d))
	}
	for _, u := range req.Upsertions {
		err := checkUpsertion(u)
		var c meta.Scram
		if err == nil {
			c = auth.Salted(u.Name, u.Mechanism, u.Iterations, u.Salt, u.SaltedPassword)
		}
		c.User, c.Mechanism = u.Name, u.Mechanism
		a.add(c, err)
	}
	a.commit()
	for _, name := range a.users {
		err := a.errs[name]
		out := kmsg.NewAlterUserSCRAMCredentialsResponseResult()
		out.User, out.ErrorCode, out.ErrorMessage = name, code(err), message(err)
		resp.Results = append(resp.Results, out)
	}
	return resp
}

type scramName struct {
	user      string
	mechanism int8
}

// scramChanges are the changes of one request, user by user: all of a user's
// are made, or none.
type scramChanges struct {
	s       *Server
	refused error
	users   []string // in order
	errs    map[string]error
	seen    map[scramName]bool
	changes []meta.Scram
}

func (a *scramChanges) add(c meta.Scram, err error) {
	name := scramName{c.User, c.Mechanism}
	if _, known := a.errs[c.User]; !known {
		a.users = append(a.users, c.User)
		a.errs[c.User] = a.refused
	}
	if a.seen[name] {
		err = fmt.Errorf("%w: user %q is changed twice in one request", kerr.DuplicateResource, c.User)
	}
	a.seen[name] = true
	if a.errs[c.User] == nil {
		a.errs[c.User] = err
	}
	a.changes = append(a.changes, c)
}

func (a *scramChanges) commit() {
	var good []meta.Scram
	for _, c := range a.changes {
		if a.errs[c.User] == nil {
			good = append(good, c)
		}
	}
	if len(good) == 0 {
		return
	}
	err := error(nil)
	if len(a.s.Meta.Scrams())+len(good) > maxScrams {
		err = fmt.Errorf("%w: there are %d credentials already", kerr.PolicyViolation, maxScrams)
	} else if err = a.s.Meta.AlterScrams(good); err != nil {
		a.s.Log.Error("change SCRAM credentials", "err", err)
	}
	for _, c := range good {
		a.errs[c.User] = err
	}
}

func (a *scramChanges) checkDeletion(d kmsg.AlterUserSCRAMCredentialsRequestDeletion) error {
	if err := checkMechanism(d.Mechanism); err != nil {
		return err
	}
	if _, ok := a.s.Meta.Scram(d.Name, d.Mechanism); !ok {
		return fmt.Errorf("%w: user %q has no such credential", kerr.ResourceNotFound, d.Name)
	}
	return nil
}

func checkMechanism(m int8) error {
	if m != auth.ScramSHA256 && m != auth.ScramSHA512 {
		return fmt.Errorf("%w: SCRAM mechanism %d", kerr.UnsupportedSaslMechanism, m)
	}
	return nil
}

func checkUpsertion(u kmsg.AlterUserSCRAMCredentialsRequestUpsertion) error {
	if err := checkMechanism(u.Mechanism); err != nil {
		return err
	}
	switch {
	case u.Name == "" || len(u.Name) > meta.MaxACLText:
		return fmt.Errorf("%w: want a user's name of at most %d bytes", kerr.UnacceptableCredential, meta.MaxACLText)
	case !utf8.ValidString(u.Name): // the journal keeps text
		return fmt.Errorf("%w: the user's name is not UTF-8", kerr.UnacceptableCredential)
	case u.Iterations < auth.MinIterations || u.Iterations > auth.MaxIterations:
		return fmt.Errorf("%w: %d iterations; want %d to %d", kerr.UnacceptableCredential, u.Iterations, auth.MinIterations, auth.MaxIterations)
	case len(u.Salt) == 0 || len(u.Salt) > 1024 || len(u.SaltedPassword) == 0 || len(u.SaltedPassword) > 1024:
		return fmt.Errorf("%w: salt or password is empty or too long", kerr.UnacceptableCredential)
	}
	return nil
}
