package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/waysideos/wayside/image/keys"
)

// passphraseEnv holds the passphrase where nobody can type one.
const passphraseEnv = "WAYSIDE_PASSPHRASE"

// keyFlags say where the keys are and how they are opened.
type keyFlags struct {
	dir, passphraseFile string
	encrypt             bool // new key files are encrypted
}

func (k *keyFlags) add(cmd *cobra.Command) {
	addKeysFlag(cmd, &k.dir)
	cmd.Flags().StringVar(&k.passphraseFile, "passphrase-file", "", "`FILE` whose first line is the passphrase of the keys (default: $"+passphraseEnv+", else asked for)")
}

// open opens the key folder.
func (k *keyFlags) open() (*keys.Folder, error) {
	dir, err := keysDir(k.dir)
	if err != nil {
		return nil, err
	}
	pass, err := k.passphrase()
	if err != nil {
		return nil, err
	}
	return keys.Open(dir, pass)
}

// passphrase is where passphrases come from: file, environment or terminal.
func (k *keyFlags) passphrase() (keys.Passphrase, error) {
	known := []byte(os.Getenv(passphraseEnv))
	if k.passphraseFile != "" {
		data, err := os.ReadFile(k.passphraseFile)
		if err != nil {
			return nil, fmt.Errorf("read passphrase: %w", err)
		}
		known, _, _ = bytes.Cut(data, []byte("\n"))
		if known = bytes.TrimSuffix(known, []byte("\r")); len(known) == 0 {
			return nil, fmt.Errorf("read passphrase: the first line of %s is empty", k.passphraseFile)
		}
	}
	if len(known) > 0 {
		return func(string, bool) ([]byte, error) { return known, nil }, nil
	}
	p := prompt{encrypt: k.encrypt, typed: map[string][]byte{}, read: readHidden, out: os.Stderr}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		p.out = io.Discard // nobody is asked: read says so
	}
	return p.passphrase, nil
}

// prompt asks on the terminal. Root keys are different people's, so each has
// a passphrase of its own; the others share one, asked for once.
type prompt struct {
	encrypt bool
	typed   map[string][]byte
	read    func() ([]byte, error)
	out     io.Writer
}

func (p *prompt) passphrase(key string, fresh bool) ([]byte, error) {
	if fresh && !p.encrypt {
		return nil, nil
	}
	whose := ""
	if strings.HasPrefix(key, keys.RoleRoot+"-") {
		whose = key
	}
	if typed := p.typed[whose]; typed != nil {
		return typed, nil
	}
	fmt.Fprintf(p.out, "passphrase of %s: ", cmp.Or(whose, "the keys"))
	typed, err := p.read()
	if err == nil && fresh {
		fmt.Fprint(p.out, "once more: ")
		var again []byte
		if again, err = p.read(); err == nil && !bytes.Equal(typed, again) {
			err = errors.New("the two passphrases differ")
		}
	}
	if err == nil && len(typed) == 0 {
		err = errors.New("an empty passphrase encrypts nothing")
	}
	if err != nil {
		return nil, fmt.Errorf("read the passphrase of key %s: %w; or give --passphrase-file or $%s", key, err, passphraseEnv)
	}
	p.typed[whose] = typed
	return typed, nil
}

// readHidden reads a line that the terminal does not show.
func readHidden() ([]byte, error) {
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return nil, errors.New("standard input is no terminal")
	}
	defer fmt.Fprintln(os.Stderr)
	return term.ReadPassword(fd)
}
