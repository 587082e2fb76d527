package main

import (
	"crypto/x509"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/waysideos/wayside/image"
	"github.com/waysideos/wayside/image/keys"
	"github.com/waysideos/wayside/image/secureboot"
	"github.com/waysideos/wayside/qemu"
	"github.com/waysideos/wayside/qemu/varstore"
)

// enrolFlags ask for an image that enrols its owner's Secure Boot keys.
type enrolFlags struct {
	mode    string
	vendors []string
}

// Words of --keep-vendor that are no file.
const (
	vendorMicrosoft = "microsoft"
	vendorNone      = "none"
)

func (f *enrolFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.mode, "enroll-keys", "", "have the boot loader enrol PK, KEK and db of --keys in a firmware in setup mode: `WHEN` is manual (a person picks it in the boot menu), if-safe (in virtual machines) or force (by itself, on any machine)")
	fl.Lookup("enroll-keys").NoOptDefVal = string(image.EnrolManual)
	complete(cmd, "enroll-keys", string(image.EnrolManual), string(image.EnrolIfSafe), string(image.EnrolForce))
	fl.StringSliceVar(&f.vendors, "keep-vendor", []string{vendorMicrosoft}, "certificates that stay in db beside ours, for the option ROMs of cards: microsoft, none, or a `FILE` in PEM or DER; may be given again")
}

// check names a mistake before anything is fetched or compiled.
func (f *enrolFlags) check() error {
	if modes := image.EnrolModes; f.mode != "" && !slices.Contains(modes, image.EnrolMode(f.mode)) {
		return fmt.Errorf("--enroll-keys=%s: it is one of %q", f.mode, modes)
	}
	return nil
}

// enrolment is what the flags ask for; nil if they do not. vendorVars is a
// variable store with the vendors' certificates.
func (f *enrolFlags) enrolment(k keyFlags, vendorVars string) (*image.Enrolment, error) {
	if f.mode == "" {
		return nil, nil
	}
	e := &image.Enrolment{Mode: image.EnrolMode(f.mode)}
	var err error
	if e.Platform, err = k.platform(); err != nil {
		return nil, err
	}
	for _, word := range f.vendors {
		certs, err := vendorCertificates(word, vendorVars)
		if err != nil {
			return nil, fmt.Errorf("--keep-vendor %s: %w", word, err)
		}
		e.Vendors = append(e.Vendors, certs...)
	}
	return e, nil
}

func vendorCertificates(word, vendorVars string) ([]*x509.Certificate, error) {
	switch word {
	case vendorNone:
		return nil, nil
	case vendorMicrosoft:
		return optionROMVendors(vendorVars)
	}
	data, err := os.ReadFile(word)
	if err != nil {
		return nil, err
	}
	return secureboot.ParseCertificates(data)
}

// optionROMVendors reads the certificates out of the firmware package's
// variable store that has them enrolled: the lock file pins its bytes, and the
// certificates are known by their hashes. They are not ours to hand on.
func optionROMVendors(vendorVars string) ([]*x509.Certificate, error) {
	if vendorVars == "" {
		return nil, fmt.Errorf("the board names no qemu.vendor_vars to take them from; give a FILE, or none")
	}
	flash, err := os.ReadFile(vendorVars)
	if err != nil {
		return nil, err
	}
	vars, err := varstore.Read(flash)
	if err != nil {
		return nil, err
	}
	for _, v := range vars {
		if v.Name == "db" {
			return secureboot.OptionROMVendors(v.Data)
		}
	}
	return nil, fmt.Errorf("%s holds no db", vendorVars)
}

// platform reads the keys of Secure Boot.
func (k *keyFlags) platform() (keys.Platform, error) {
	dir, err := keysDir(k.dir)
	if err != nil {
		return keys.Platform{}, err
	}
	pass, err := k.passphrase()
	if err != nil {
		return keys.Platform{}, err
	}
	return keys.LoadOrCreatePlatform(dir, pass)
}

// ownVariables are the firmware's variables of a machine that belongs to our
// keys, and to nobody else.
func ownVariables(k keyFlags) (*qemu.SecureBoot, error) {
	p, err := k.platform()
	if err != nil {
		return nil, err
	}
	vars, err := secureboot.Variables(p, nil, p.PK.Cert.NotBefore)
	if err != nil {
		return nil, err
	}
	s := &qemu.SecureBoot{}
	for _, v := range vars {
		s.Variables = append(s.Variables, varstore.Variable{
			Name: v.Name, Vendor: varstore.GUID(v.Vendor), Attributes: secureboot.Attributes, Time: v.Time, Data: v.List,
		})
	}
	return s, nil
}
