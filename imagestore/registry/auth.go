package registry

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/containerd/errdefs"
)

// Auth is what a client has to show to a registry, as CRI's AuthConfig carries it. Of the four kinds the first that is
// there counts: user name and password, identity token, Auth, registry token.
type Auth struct {
	Username, Password string
	// Auth is base64 of "user:password".
	Auth string
	// ServerAddress is the registry that the credentials are for; empty: the one that the reference names. They are shown to no other host.
	ServerAddress string
	// IdentityToken is exchanged for an access token at the registry's token server.
	IdentityToken string
	// RegistryToken is sent to the registry as it is.
	RegistryToken string
}

// credentials are an Auth, read, and the host that may see them.
type credentials struct {
	host         string
	user, secret string // an empty user: secret is an identity token
	bearer       string
}

// bind reads the credentials. domain is the registry that the reference names.
func (a *Auth) bind(domain string) (credentials, error) {
	if a == nil {
		return credentials{}, nil
	}
	c := credentials{host: domain}
	if a.ServerAddress != "" {
		host, err := serverHost(a.ServerAddress)
		if err != nil {
			return credentials{}, err
		}
		c.host = host
	}
	switch {
	case a.Username != "" && (a.Password != "" || a.IdentityToken == ""): // docker keeps the user's name beside an identity token
		c.user, c.secret = a.Username, a.Password
	case a.IdentityToken != "":
		c.secret = a.IdentityToken
	case a.Auth != "":
		user, secret, err := decodeAuth(a.Auth)
		if err != nil {
			return credentials{}, err
		}
		c.user, c.secret = user, secret
	default:
		c.bearer = a.RegistryToken
	}
	return c, nil
}

// decodeAuth must not quote what it can't read: it is a secret all the same.
func decodeAuth(encoded string) (user, secret string, err error) {
	decoded, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return "", "", fmt.Errorf("read auth: %w: not base64", ErrDenied)
	}
	// Docker pads passwords with zero bytes.
	user, secret, found := strings.Cut(strings.TrimRight(string(decoded), "\x00"), ":")
	if !found {
		return "", "", fmt.Errorf("read auth: %w: not of the form user:password", ErrDenied)
	}
	return user, secret, nil
}

// serverHost takes an address with or without scheme and path, as docker's configuration has both.
func serverHost(address string) (string, error) {
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return "", fmt.Errorf("read server address: %w: not a host or URL", ErrDenied)
	}
	return u.Host, nil
}

// allows tells whether host may see the credentials.
func (c credentials) allows(host string) bool {
	return c.host != "" && strings.EqualFold(canonicalHost(c.host), canonicalHost(host))
}

// canonicalHost: Docker Hub has three names, and credentials for it name any.
func canonicalHost(host string) string {
	switch host {
	case "index.docker.io", "registry-1.docker.io":
		return "docker.io"
	}
	return strings.TrimSuffix(host, ":443")
}

// bearer shows a token that the client got by itself.
type bearer struct {
	credentials
}

// Authorize is called for redirects too, with the host that they lead to.
func (b bearer) Authorize(_ context.Context, req *http.Request) error {
	if b.allows(req.URL.Host) {
		req.Header.Set("Authorization", "Bearer "+b.credentials.bearer)
	}
	return nil
}

// AddResponses has no second token to offer.
func (b bearer) AddResponses(context.Context, []*http.Response) error {
	return errdefs.ErrNotImplemented
}
