package claim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// payloadType is part of what is signed: nothing else that a key of the owner
// signs, update metadata above all, can be shown as a claim, nor a claim as that.
const payloadType = "application/vnd.wayside.claim+json"

// Signature is one key's.
type Signature struct {
	KeyID string `json:"keyid"` // as the update root has it
	Sig   []byte `json:"sig"`
}

// envelope is a DSSE envelope (github.com/secure-systems-lab/dsse, 1.0).
type envelope struct {
	PayloadType string      `json:"payloadType"`
	Payload     []byte      `json:"payload"`
	Signatures  []Signature `json:"signatures"`
}

// Message is what keys sign of a payload: DSSE's pre-authentication encoding.
func Message(payload []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
}

// Seal makes the file of a payload and the signatures of its Message.
func Seal(payload []byte, signatures []Signature) ([]byte, error) {
	text, err := json.Marshal(envelope{payloadType, payload, signatures})
	if err != nil {
		return nil, err
	}
	if text = append(text, '\n'); len(text) > MaxSize {
		return nil, fmt.Errorf("the claim has %d bytes, the most is %d", len(text), MaxSize)
	}
	return text, nil
}

// Read returns what a file says without asking who says so: for the owner's own
// desk, and for what a box has taken over already.
func Read(file []byte) (*Claim, error) {
	e, err := open(file)
	if err != nil {
		return nil, err
	}
	return decode(e.Payload)
}

// Open returns what a file says if the keys of an update root have signed it
// (TUF root metadata, of the image that the box runs; nil if it has none).
func Open(file, root []byte) (*Claim, error) {
	e, err := open(file)
	if err != nil {
		return nil, err
	}
	owner, err := readOwner(root)
	if err != nil {
		return nil, err
	}
	if err := owner.verify(Message(e.Payload), e.Signatures); err != nil {
		return nil, err
	}
	return decode(e.Payload)
}

func open(file []byte) (*envelope, error) {
	if len(file) > MaxSize {
		return nil, fmt.Errorf("has more than %d bytes", MaxSize)
	}
	e := &envelope{}
	dec := json.NewDecoder(bytes.NewReader(file))
	switch {
	case len(bytes.Trim(file, "\x00")) == 0:
		return nil, errors.New("is empty: copy it again")
	case dec.Decode(e) != nil || len(e.Payload) == 0:
		return nil, errors.New("is no claim, or damaged: copy it again")
	case e.PayloadType != payloadType:
		return nil, fmt.Errorf("is %.80q, want %q", e.PayloadType, payloadType)
	case len(e.Signatures) == 0:
		return nil, errors.New("is not signed")
	}
	return e, nil
}
