package opcua

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"

	"github.com/gopcua/opcua"
	"github.com/gopcua/opcua/ua"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/site"
)

// dial opens a session.
func (c *Connector) dial(ctx context.Context, box *connect.Box) (*opcua.Client, error) {
	opts := []opcua.Option{
		opcua.ApplicationName("Wayside " + c.cfg.Name), opcua.SessionName("wayside " + box.Site() + " " + c.cfg.Name),
		opcua.AutoReconnect(false), opcua.RequestTimeout(publishWait(c.interval)),
		opcua.DialTimeout(requestTimeout), opcua.SessionTimeout(sessionTimeout),
	}
	more, err := c.security(ctx, box)
	if err != nil {
		return nil, err
	}
	opts = append(opts, more...)
	ctx, cancel := context.WithTimeout(ctx, 3*requestTimeout)
	defer cancel()
	if client := c.again(ctx, opts); client != nil {
		return client, nil
	}
	client, err := opcua.NewClient(c.cfg.Endpoint, opts...)
	if err != nil {
		return nil, err
	}
	if err := client.Connect(ctx); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", c.cfg.Endpoint, err)
	}
	return client, nil
}

// again takes the session up that a lost connection has left, on a channel
// that has had no other (part 4, 5.6.3); nil if that cannot be.
func (c *Connector) again(ctx context.Context, opts []opcua.Option) *opcua.Client {
	if c.left == nil {
		return nil
	}
	client, err := opcua.NewClient(c.cfg.Endpoint, opts...)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if err := client.Dial(ctx); err == nil {
		if err := client.ActivateSession(ctx, c.left.at); err == nil && client.Session() == c.left.at {
			return client
		}
	}
	_ = client.Close(ctx) // it has no session
	return nil
}

// security chooses the server's endpoint that the profile asks for, and looks
// at the server's certificate before anything secret is sent.
func (c *Connector) security(ctx context.Context, box *connect.Box) ([]opcua.Option, error) {
	policy, mode := "None", ua.MessageSecurityModeNone
	if s := c.cfg.Security; s != nil {
		policy, mode = s.Policy, ua.MessageSecurityModeSignAndEncrypt
		if s.Mode == site.ModeSign {
			mode = ua.MessageSecurityModeSign
		}
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	endpoints, err := opcua.GetEndpoints(ctx, c.cfg.Endpoint, opcua.DialTimeout(requestTimeout), opcua.RequestTimeout(requestTimeout))
	if err != nil {
		return nil, fmt.Errorf("ask %s for its endpoints: %w", c.cfg.Endpoint, err)
	}
	ep, err := opcua.SelectEndpoint(endpoints, policy, mode)
	if err != nil {
		return nil, fmt.Errorf("%s offers no endpoint with policy %s and mode %s, but %s", c.cfg.Endpoint, policy, mode, offers(endpoints))
	}
	var opts []opcua.Option
	if s := c.cfg.Security; s != nil {
		if opts, err = c.certificates(box, s, ep.ServerCertificate); err != nil {
			return nil, err
		}
	}
	if c.cfg.User == "" {
		return append(opts, opcua.AuthAnonymous(), opcua.SecurityFromEndpoint(ep, ua.UserTokenTypeAnonymous)), nil
	}
	if !c.cfg.InsecurePassword && (c.cfg.Security == nil || clear(ep)) {
		return nil, fmt.Errorf("the password is not sent: %s", untrusted(ep))
	}
	password, err := box.Secret(c.cfg.Password)
	if err != nil {
		return nil, err
	}
	return append(opts, opcua.AuthUsername(c.cfg.User, password), opcua.SecurityFromEndpoint(ep, ua.UserTokenTypeUserName)), nil
}

func offers(endpoints []*ua.EndpointDescription) string {
	var all []string
	for _, e := range endpoints {
		_, policy, _ := cutLast(e.SecurityPolicyURI, "#")
		all = append(all, policy+" "+e.SecurityMode.String())
	}
	return fmt.Sprintf("%q", all)
}

// clear says that an endpoint has passwords go over the network as they are:
// neither its messages nor its login are encrypted (part 4, 7.36.4).
func clear(ep *ua.EndpointDescription) bool {
	policy := ep.SecurityPolicyURI
	for _, t := range ep.UserIdentityTokens {
		if t.TokenType == ua.UserTokenTypeUserName { // the first is used
			if t.SecurityPolicyURI != "" {
				policy = t.SecurityPolicyURI
			}
			break
		}
	}
	return ep.SecurityMode != ua.MessageSecurityModeSignAndEncrypt && (policy == "" || policy == ua.SecurityPolicyURINone)
}

func untrusted(ep *ua.EndpointDescription) string {
	if clear(ep) {
		return "it would go over the network as it is; give the connector security of mode sign-and-encrypt, or allow insecure_password"
	}
	return "nobody has compared the server's certificate; give the connector security with a trust list, or allow insecure_password"
}

func (c *Connector) certificates(box *connect.Box, s *site.OPCUASecurity, server []byte) ([]opcua.Option, error) {
	pair, err := tls.LoadX509KeyPair(box.SecretPath(s.Cert), box.SecretPath(s.Key))
	if err != nil {
		return nil, fmt.Errorf("read the client's certificate and key: %w", err)
	}
	key, ok := pair.PrivateKey.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s is no RSA key, which this policy needs", s.Key)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("read the client's certificate: %w", err)
	}
	trust, err := os.ReadFile(box.SecretPath(s.Trust))
	if err != nil {
		return nil, fmt.Errorf("read the trust list: %w", err)
	}
	if err := trusted(server, trust); err != nil {
		return nil, err
	}
	opts := []opcua.Option{opcua.PrivateKey(key), opcua.Certificate(pair.Certificate[0])}
	if len(leaf.URIs) > 0 { // servers compare them (part 4, 5.6.2)
		opts = append(opts, opcua.ApplicationURI(leaf.URIs[0].String()))
	}
	return opts, nil
}

// trusted wants the server's certificate in the list, or signed by one that
// is. The host name is not compared: devices have addresses, and their
// certificates name what the factory called them.
func trusted(server, list []byte) error {
	cert, err := x509.ParseCertificate(server)
	if err != nil {
		return fmt.Errorf("the server's certificate cannot be read: %w", err)
	}
	roots := x509.NewCertPool()
	for rest := list; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if bytes.Equal(block.Bytes, server) {
			return nil
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && c.IsCA {
			roots.AddCert(c)
		}
	}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		sum := sha256.Sum256(server)
		return fmt.Errorf("the server's certificate (%s, SHA-256 %s) is not trusted: compare it with the device and add it to the trust list: %w",
			cert.Subject, hex.EncodeToString(sum[:]), err)
	}
	return nil
}
