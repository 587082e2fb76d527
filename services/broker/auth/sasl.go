package auth

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/waysideos/wayside/services/broker/meta"
)

// SASL is how clients of a listener say who they are.
type SASL struct {
	Mechanisms []string // of Mechanisms
	Users      *Users   // from a file; nil: only those of the broker's state
	OAuth      *OAuth   // needed for OAUTHBEARER
	// MaxSession is after how long a client must authenticate again
	// (KIP-368); 0: not before its token expires.
	MaxSession time.Duration

	hashing sync.Mutex
}

// Credentials finds what a user of the broker's state proves a password by.
type Credentials func(user string, mechanism int8) (meta.Scram, bool)

// Identity is who somebody has proved to be.
type Identity struct {
	User    string
	Expires time.Time // zero: never
}

// Conversation is one authentication under way.
type Conversation interface {
	// Next takes a message of the client and gives the answer to it. Who the
	// client is stands in the identity once that is proved, and then no
	// further message is wanted. An error ends it; its text is not for the
	// client.
	Next(token []byte) (reply []byte, who *Identity, err error)
}

// ErrMechanism is a mechanism that the listener does not offer.
var ErrMechanism = errors.New("mechanism is not offered")

// Start begins an authentication.
func (s *SASL) Start(mechanism string, state Credentials) (Conversation, error) {
	if !slices.Contains(s.Mechanisms, mechanism) {
		return nil, fmt.Errorf("%w: %q", ErrMechanism, mechanism)
	}
	users := directory{s.Users, state}
	switch mechanism {
	case plain:
		return plainTalk{users, &s.hashing}, nil
	case scram256, scram512:
		return &scramTalk{mechanism: mechanism, users: users}, nil
	}
	return &oauthTalk{oauth: s.OAuth}, nil
}

// Check says what is missing of the configuration.
func (s *SASL) Check() error {
	if len(s.Mechanisms) == 0 {
		return errors.New("sasl has no mechanisms")
	}
	for _, m := range s.Mechanisms {
		if !known(m) {
			return fmt.Errorf("sasl mechanism %q is none of %v", m, Mechanisms)
		}
	}
	if slices.Contains(s.Mechanisms, oauthBearer) && s.OAuth == nil {
		return errors.New("sasl mechanism OAUTHBEARER needs keys to verify tokens with")
	}
	return nil
}

// directory is all users there are: those of the file first.
type directory struct {
	file  *Users
	state Credentials
}

// find returns a user's credential for a SCRAM mechanism.
func (d directory) find(user string, mechanism int8) (meta.Scram, bool) {
	if d.file != nil {
		if c, ok := d.file.find(user, mechanism); ok {
			return c, true
		}
		if d.file.knows(user) { // by another mechanism: the file counts
			return meta.Scram{}, false
		}
	}
	if d.state == nil {
		return meta.Scram{}, false
	}
	return d.state(user, mechanism)
}
