package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/waysideos/wayside/services/secret"
)

func newKey(t testing.TB, id string) jose.JSONWebKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return jose.JSONWebKey{Key: key, KeyID: id, Algorithm: "ES256", Use: "sig"}
}

func jwksText(t testing.TB, keys ...jose.JSONWebKey) string {
	t.Helper()
	var set jose.JSONWebKeySet
	for _, k := range keys {
		set.Keys = append(set.Keys, k.Public())
	}
	text, err := json.Marshal(set)
	must(t, err)
	return string(text)
}

func keysOf(t testing.TB, keys ...jose.JSONWebKey) *secret.Reloaded[jose.JSONWebKeySet] {
	t.Helper()
	path := filepath.Join(t.TempDir(), "jwks.json")
	must(t, os.WriteFile(path, []byte(jwksText(t, keys...)), 0o600))
	o, err := OpenOAuth(OAuthFiles{JWKS: path}, quiet())
	must(t, err)
	return o.keys
}

func tokenOf(t testing.TB, key any, alg jose.SignatureAlgorithm, id string, claims any) string {
	t.Helper()
	opts := &jose.SignerOptions{}
	if id != "" {
		opts.WithHeader("kid", id)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, opts)
	must(t, err)
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	must(t, err)
	return token
}

func TestTokens(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	key, other := newKey(t, "one"), newKey(t, "two")
	o := &OAuth{
		files: OAuthFiles{Issuer: "https://issuer", Audience: []string{"kafka", "broker"}, Claim: "sub"},
		keys:  keysOf(t, key), now: func() time.Time { return now },
	}
	claims := func(edit ...func(map[string]any)) map[string]any {
		c := map[string]any{"sub": "till", "iss": "https://issuer", "aud": "kafka",
			"exp": now.Add(time.Minute).Unix(), "iat": now.Add(-time.Minute).Unix()}
		for _, e := range edit {
			e(c)
		}
		return c
	}
	with := func(name string, v any) map[string]any { return claims(func(c map[string]any) { c[name] = v }) }
	without := func(name string) map[string]any { return claims(func(c map[string]any) { delete(c, name) }) }
	es := func(c any) string { return tokenOf(t, key.Key, jose.ES256, "one", c) }
	pub, err := key.Public().MarshalJSON()
	must(t, err)
	for name, tt := range map[string]struct{ token, want string }{
		"good":            {es(claims()), ""},
		"no key id":       {tokenOf(t, key.Key, jose.ES256, "", claims()), ""},
		"two audiences":   {es(with("aud", []string{"x", "broker"})), ""},
		"other key":       {tokenOf(t, other.Key, jose.ES256, "one", claims()), "verify"},
		"unknown key":     {tokenOf(t, other.Key, jose.ES256, "two", claims()), `key "two"`},
		"expired":         {es(with("exp", now.Add(-time.Minute).Unix())), "expired"},
		"no expiry":       {es(without("exp")), "when it expires"},
		"other issuer":    {es(with("iss", "https://else")), "issuer"},
		"other audience":  {es(with("aud", "mail")), "audience"},
		"no audience":     {es(without("aud")), "audience"},
		"of the future":   {es(with("iat", now.Add(time.Hour).Unix())), "is it set?"},
		"not yet":         {es(with("nbf", now.Add(time.Hour).Unix())), "is it set?"},
		"no name":         {es(without("sub")), `claim "sub"`},
		"unsigned":        {"eyJhbGciOiJub25lIn0.eyJzdWIiOiJ0aWxsIn0.", "unexpected signature algorithm"},
		"key as a secret": {tokenOf(t, pub, jose.HS256, "one", claims()), "unexpected signature algorithm"},
		"no token":        {"x", "read a token"},
		"long":            {strings.Repeat("x", longestToken+1), "at most"},
	} {
		who, err := o.verify(tt.token)
		if tt.want == "" {
			if err != nil || who.User != "till" || !who.Expires.Equal(now.Add(time.Minute)) {
				t.Errorf("%s: got %+v, %v", name, who, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %+v, %v, want %q", name, who, err, tt.want)
		}
	}
	now = time.Date(1970, 1, 1, 0, 5, 0, 0, time.UTC)
	if _, err := o.verify(es(claims())); err == nil || !strings.Contains(err.Error(), "clock says 1970") {
		t.Errorf("clock of 1970: got %v", err)
	}
}

// TestOAuthTalk: a bad token is answered with a reason, and refused then.
func TestOAuthTalk(t *testing.T) {
	key := newKey(t, "one")
	o := &OAuth{files: OAuthFiles{Claim: "name"}, keys: keysOf(t, key), now: time.Now}
	s := &SASL{Mechanisms: []string{oauthBearer}, OAuth: o}
	good := tokenOf(t, key.Key, jose.ES256, "one", map[string]any{"name": "till", "exp": time.Now().Add(time.Hour).Unix()})
	for name, tt := range map[string]struct {
		message string
		user    string
		reply   string
		refused bool
	}{
		"good":         {"n,,\x01auth=Bearer " + good + "\x01\x01", "till", "", false},
		"extensions":   {"n,a=till,\x01auth=bearer " + good + "\x01traceId=1\x01\x01", "till", "", false},
		"somebody":     {"n,a=boss,\x01auth=Bearer " + good + "\x01\x01", "", "", true},
		"bad":          {"n,,\x01auth=Bearer x\x01\x01", "", badToken, false},
		"no token":     {"n,,\x01\x01", "", "", true},
		"no header":    {"auth=Bearer " + good, "", "", true},
		"binding":      {"p=tls-unique,,\x01auth=Bearer " + good + "\x01\x01", "", "", true},
		"other scheme": {"n,,\x01auth=Basic " + good + "\x01\x01", "", "", true},
	} {
		talk, err := s.Start(oauthBearer, nil)
		must(t, err)
		reply, who, err := talk.Next([]byte(tt.message))
		user := ""
		if who != nil {
			user = who.User
		}
		if user != tt.user || string(reply) != tt.reply || (err != nil) != tt.refused {
			t.Errorf("%s: got %q, %v, %v", name, reply, who, err)
		}
		if tt.reply != "" {
			if _, who, err := talk.Next([]byte{1}); err == nil || who != nil {
				t.Errorf("%s: got %v, %v after the reason, want an error", name, who, err)
			}
		}
	}
}

// TestKeysReload: an issuer that changes its keys.
func TestKeysReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jwks.json")
	one, two := newKey(t, "one"), newKey(t, "two")
	replaceFile(t, path, jwksText(t, one))
	o, err := OpenOAuth(OAuthFiles{JWKS: path}, quiet())
	must(t, err)
	claims := map[string]any{"sub": "u", "exp": time.Now().Add(time.Hour).Unix()}
	token := tokenOf(t, two.Key, jose.ES256, "two", claims)
	if _, err := o.verify(token); err == nil {
		t.Error("a token of an unknown key is taken")
	}
	replaceFile(t, path, jwksText(t, one, two))
	if _, err := o.verify(token); err != nil {
		t.Errorf("after the keys changed: %v", err)
	}
	for _, bad := range []string{"{", `{"keys":[]}`, `{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`} {
		replaceFile(t, path, bad)
		if _, err := o.verify(token); err != nil {
			t.Errorf("a broken file took the keys away: %v", err)
		}
		if _, err := OpenOAuth(OAuthFiles{JWKS: path}, quiet()); err == nil {
			t.Errorf("keys %s are taken at start", bad)
		}
	}
}
