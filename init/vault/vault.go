// Package vault decides how the box's writable partitions are kept: encrypted
// with a key that the TPM gives, opened by the recovery key where it does not,
// or plain.
package vault

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/firstboot"
	"github.com/waysideos/wayside/init/gpt"
	"github.com/waysideos/wayside/init/luks"
	"github.com/waysideos/wayside/init/seal"
	"github.com/waysideos/wayside/services/vfs"
)

// Config is what a vault works with.
type Config struct {
	// Wanted has partitions that hold nothing yet encrypted. Those that are
	// encrypted are opened in any case, and plain ones stay as they are.
	Wanted bool
	// SecureBoot says that the firmware runs only what is signed. Without it,
	// what the TPM gives to us it gives to others, so nothing is sealed.
	SecureBoot bool
	TPM        transport.TPM // nil: there is none
	Policy     seal.Policy
	// Typed is the recovery key that a person put on the boot partition, ""
	// if nobody did.
	Typed  func() (string, error)
	Random io.Reader
	Log    *slog.Logger
}

// Vault knows the partitions that were asked for.
type Vault struct {
	c        Config
	recovery string                  // the box's recovery key, once it is known
	open     map[layout.Role]*opened // encrypted ones
	how      map[layout.Role]string  // how they were opened, see How
	problems []string
}

type opened struct {
	volume *luks.Volume
	key    []byte
}

// New makes a vault that has opened nothing.
func New(c Config) *Vault {
	return &Vault{c: c, open: map[layout.Role]*opened{}, how: map[layout.Role]string{}}
}

// Words of How.
const (
	Plain    = "off"
	ByTPM    = "tpm"
	ByPerson = "recovery key"
	Locked   = "locked"
)

// How says how the partitions are kept: the word for the worst of them.
func (v *Vault) How() string {
	worst := ""
	for _, word := range []string{ByTPM, Plain, ByPerson, Locked} {
		for _, how := range v.how {
			if how == word {
				worst = word
			}
		}
	}
	return worst
}

// Problems are what a technician should know, in words.
func (v *Vault) Problems() []string { return v.problems }

func (v *Vault) problem(format string, a ...any) {
	v.problems = append(v.problems, fmt.Sprintf(format, a...))
}

const secretSize = 32

// Open says how a partition of size bytes is to be read: with the key that it
// returns, or plain if that is nil. One that holds nothing is made a volume if
// that is wanted.
func (v *Vault) Open(role layout.Role, d gpt.Disk, size int64) (key []byte, err error) {
	defer func() {
		if err != nil {
			v.how[role] = Locked
		}
	}()
	is, err := luks.Is(d)
	if err != nil {
		return nil, err
	}
	if is {
		return v.unlock(role, d)
	}
	content, err := firstboot.Inspect(d, size)
	if err != nil {
		return nil, err
	}
	if content != firstboot.Blank || !v.c.Wanted {
		v.how[role] = Plain
		if v.c.Wanted {
			v.problem("%s is not encrypted: it was made by a release that did not ask for it", role)
		}
		return nil, nil
	}
	return v.format(role, d)
}

// unlock asks the TPM, then looks for what a person may have typed.
func (v *Vault) unlock(role layout.Role, d gpt.Disk) ([]byte, error) {
	volume, err := luks.Open(d, v.c.Random)
	if err != nil {
		return nil, err
	}
	key, tpmErr := v.byTPM(volume)
	if tpmErr == nil {
		v.how[role] = ByTPM
		v.open[role] = &opened{volume, key}
		return key, nil
	}
	typed, err := v.c.Typed()
	if err == nil && typed == "" {
		err = fmt.Errorf("put the recovery key into %s on the boot partition and start again", layout.ESPRecovery)
	}
	if err == nil {
		if typed, err = ParseRecoveryKey(typed); err == nil {
			key, err = volume.Unlock([]byte(typed))
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", layout.ESPRecovery, err)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s is locked: the TPM does not give its key (%v); %w", role, tpmErr, err)
	}
	v.how[role] = ByPerson
	v.open[role] = &opened{volume, key}
	v.problem("%s was opened by the recovery key, because the TPM did not give its key: %v", role, tpmErr)
	v.sealAgain(role)
	return key, nil
}

// sealAgain gives the TPM that is there now the key of an open volume.
func (v *Vault) sealAgain(role layout.Role) {
	o := v.open[role]
	entry, err := v.sealed()
	if err == nil {
		err = o.volume.Replace(o.key, func(kind string) bool { return kind == seal.TokenType }, entry)
	}
	if err != nil {
		v.problem("%s will ask for the recovery key again: %v", role, err)
		return
	}
	v.problem("the TPM has the key of %s again: delete %s from the boot partition", role, layout.ESPRecovery)
}

func (v *Vault) byTPM(volume *luks.Volume) ([]byte, error) {
	tokens, err := luks.Tokens[seal.Sealed](volume, seal.TokenType)
	if err != nil {
		return nil, err
	}
	if v.c.TPM == nil {
		return nil, errors.New("there is no TPM")
	}
	err = errors.New("nothing was sealed to it")
	for _, s := range tokens {
		var secret, key []byte
		if secret, err = s.Unseal(v.c.TPM, v.c.Policy); err != nil {
			continue
		}
		if key, err = volume.Unlock(secret); err == nil {
			return key, nil
		}
	}
	return nil, err
}

// sealed makes a secret and seals it, and believes the TPM only when it has
// given it back.
func (v *Vault) sealed() (luks.Entry, error) {
	switch {
	case v.c.TPM == nil:
		return luks.Entry{}, errors.New("there is no TPM to keep its key")
	case !v.c.SecureBoot:
		return luks.Entry{}, errors.New("Secure Boot is off, so the TPM would give its key to anybody; enrol the keys first")
	}
	secret := make([]byte, secretSize)
	if _, err := io.ReadFull(v.c.Random, secret); err != nil {
		return luks.Entry{}, err
	}
	s, err := seal.Seal(v.c.TPM, v.c.Policy, secret)
	if err != nil {
		return luks.Entry{}, err
	}
	back, err := s.Unseal(v.c.TPM, v.c.Policy)
	if err != nil {
		return luks.Entry{}, err
	}
	if !bytes.Equal(back, secret) {
		return luks.Entry{}, errors.New("the TPM gives back another secret than it was given")
	}
	return luks.Entry{Passphrase: secret, Token: s.Token()}, nil
}

// format makes a volume. All volumes of a box have one recovery key; it is
// made with the first, the state partition, which then keeps it.
func (v *Vault) format(role layout.Role, d gpt.Disk) ([]byte, error) {
	if role == layout.State && v.recovery == "" {
		var err error
		if v.recovery, err = newRecoveryKey(v.c.Random); err != nil {
			return nil, err
		}
	}
	if v.recovery == "" {
		return nil, fmt.Errorf("%s is not made: it is to be encrypted, and without the state partition there is no recovery key", role)
	}
	entry, err := v.sealed()
	if err != nil {
		return nil, fmt.Errorf("%s is not made: it is to be encrypted, and %w", role, err)
	}
	if _, err := luks.Format(d, v.c.Random, "wayside-"+string(role), entry, luks.Entry{Passphrase: []byte(v.recovery)}); err != nil {
		return nil, fmt.Errorf("%s: %w", role, err)
	}
	v.c.Log.Info(fmt.Sprintf("first boot: encrypted %s", role))
	return v.unlock(role, d)
}

// Keep settles the recovery key once the state partition is mounted. fresh is
// not "" when nobody has been shown the key yet. A first boot that was cut off
// before it was kept gets another one.
func (v *Vault) Keep(state vfs.FS) (fresh string, err error) {
	o := v.open[layout.State]
	if o == nil {
		return "", nil
	}
	kept, err := readRecovery(state)
	if err != nil {
		return "", fmt.Errorf("read the recovery key: %w", err)
	}
	if kept != "" {
		v.recovery = kept
		return "", nil
	}
	if v.recovery == "" {
		if v.recovery, err = newRecoveryKey(v.c.Random); err != nil {
			return "", err
		}
		own := func(kind string) bool { return kind == "" }
		if err := o.volume.Replace(o.key, own, luks.Entry{Passphrase: []byte(v.recovery)}); err != nil {
			return "", fmt.Errorf("set the recovery key: %w", err)
		}
	}
	if err := writeRecovery(state, v.recovery); err != nil {
		return "", fmt.Errorf("keep the recovery key: %w", err)
	}
	return v.recovery, nil
}

// Close makes the TPM keep its secrets from whatever runs next.
func (v *Vault) Close() error {
	for _, o := range v.open {
		clear(o.key)
	}
	clear(v.open)
	if v.c.TPM == nil {
		return nil
	}
	return seal.Lock(v.c.TPM)
}

// DataOffset is where a volume's content begins, in bytes.
const DataOffset = luks.DataOffset

// Table is the dm-crypt table of a volume on the block device "major:minor"
// (kernel documentation, device-mapper/dm-crypt). Discards go through: they
// tell an onlooker which blocks are free, and an SD card needs them.
func Table(key []byte, device string) string {
	return fmt.Sprintf("aes-xts-plain64 %x 0 %s %d 1 allow_discards", key, device, DataOffset/gpt.Sector)
}
