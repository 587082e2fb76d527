package main

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/services/claim"
	"github.com/waysideos/wayside/services/site"
)

// addClaim adds the claim to the files for the boot partition, if the box would
// take it over and its profile then lacks nothing.
func (o *flashOptions) addClaim(s *flashSource, files map[string][]byte, p *progress) error {
	text, err := readClaim(o.claim)
	if err != nil {
		return err
	}
	c, err := claim.Open(text, s.owner)
	if err != nil {
		return fmt.Errorf("claim %s: the box would refuse it: %w", o.claim, err)
	}
	if now := time.Now(); now.After(c.Expires) {
		return fmt.Errorf("claim %s: it expired %s: make another one", o.claim, c.Expires.Format(time.DateOnly))
	}
	given := func(name string) ([]byte, bool) {
		if data, ok := files[name]; ok {
			return data, true
		}
		data, ok := s.boot[name]
		return data, ok
	}
	profile, ok := given(layout.ESPSite)
	if ok {
		if err := fits(c, profile, func(secret string) bool {
			_, ok := given(path.Join(layout.ESPSecrets, secret))
			return ok
		}); err != nil {
			return fmt.Errorf("claim %s: %w", o.claim, err)
		}
	}
	files[layout.ESPClaim], s.claim = text, c.Name
	p.done("claim", "of %s, %d secrets, signature checked", c.Name, len(c.Secrets))
	return nil
}

// fits says what a profile lacks with a claim. there says whether a secret is on
// the boot partition anyway.
func fits(c *claim.Claim, profile []byte, there func(secret string) bool) error {
	p, err := site.ParseFor("site profile", profile, c.Own())
	if err != nil {
		return fmt.Errorf("the site profile is not valid with it:\n%w", err)
	}
	for name := range c.Variables {
		if _, declared := p.Variables[name]; !declared {
			return fmt.Errorf("its variable %s is none of the site profile's: declare it in variables", name)
		}
	}
	missing := slices.DeleteFunc(site.SecretFiles(p), func(name string) bool { return len(c.Secrets[name]) > 0 || there(name) })
	if len(missing) > 0 {
		return fmt.Errorf("the site profile names secrets that are neither in it nor in --secrets: %s", strings.Join(missing, ", "))
	}
	return nil
}
