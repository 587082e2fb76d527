package kafka

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/waysideos/wayside/services/secret"
)

// tokenWait is how long an issuer may take to answer.
const tokenWait = 20 * time.Second

// token is the one of a file, or one that the issuer gives for a client's id
// and secret (RFC 6749, section 4.4). It is asked for at every login: a token
// ends with its connection, and connections are few.
func (s Security) token(ctx context.Context) (string, error) {
	if s.SASL.Token != "" {
		return secret.Read(s.Secrets, s.SASL.Token)
	}
	o := s.SASL.OAuth
	password, err := secret.Read(s.Secrets, o.ClientSecret)
	if err != nil {
		return "", err
	}
	form := url.Values{"grant_type": {"client_credentials"}}
	if o.Scope != "" {
		form.Set("scope", o.Scope)
	}
	ctx, cancel := context.WithTimeout(ctx, tokenWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.TokenURL, strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(url.QueryEscape(o.ClientID), url.QueryEscape(password)) // section 2.3.1
	transport := &http.Transport{DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment}
	if s.TLS != nil {
		if transport.TLSClientConfig, err = secret.ClientTLS(s.Secrets, s.TLS, ""); err != nil {
			return "", err
		}
		transport.TLSClientConfig.ServerName = "" // that of the brokers
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return "", fmt.Errorf("ask for a token: %w", err)
	}
	defer resp.Body.Close()
	var answer struct {
		Token       string `json:"access_token"`
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&answer)
	switch {
	case resp.StatusCode != http.StatusOK:
		return "", fmt.Errorf("ask for a token: %s %s %s", resp.Status, answer.Error, answer.Description)
	case err != nil:
		return "", fmt.Errorf("read token: %w", err)
	case answer.Token == "":
		return "", fmt.Errorf("ask for a token: %s answers without access_token", o.TokenURL)
	}
	return answer.Token, nil
}
