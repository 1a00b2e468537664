package stream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Config is the [streaming] table of the configuration file.
type Config struct {
	// Address is where streams are served, host:port. Port 0: any free one.
	Address string `toml:"address"`
	// IdleTimeout ends a connection on which nothing was sent for so long.
	IdleTimeout Duration `toml:"idle_timeout"`
	// TLSCert and TLSKey are PEM files; with them streams are served over TLS only.
	TLSCert string `toml:"tls_cert"`
	TLSKey  string `toml:"tls_key"`
	// ClientCA is a PEM file: whoever connects must have a certificate of one of its authorities.
	ClientCA string `toml:"client_ca"`
}

// Duration is written as Go does: "4h0m0s".
type Duration time.Duration

// MarshalText writes the duration.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads a duration.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// DefaultConfig is what holds where the configuration file is silent.
func DefaultConfig() Config {
	return Config{Address: "127.0.0.1:0", IdleTimeout: Duration(4 * time.Hour)}
}

// Validate returns every mistake in c, each named by its key.
func (c Config) Validate() error {
	var errs []error
	wrong := func(key string, value any, rule string) {
		errs = append(errs, fmt.Errorf("%s %v: %s", key, value, rule))
	}
	if host, _, err := net.SplitHostPort(c.Address); err != nil || host == "" {
		wrong("address", c.Address, "must be host:port, for clients are sent there")
	} else if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		wrong("address", c.Address, "must be an address that clients can connect to, not all addresses")
	}
	if c.IdleTimeout < 0 {
		wrong("idle_timeout", time.Duration(c.IdleTimeout), "must not be negative")
	}
	for _, f := range []struct{ key, path string }{{"tls_cert", c.TLSCert}, {"tls_key", c.TLSKey}, {"client_ca", c.ClientCA}} {
		if f.path != "" && !filepath.IsAbs(f.path) {
			wrong(f.key, f.path, "must be an absolute path")
		}
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		wrong("tls_cert", c.TLSCert, "and tls_key go together")
	}
	if c.ClientCA != "" && c.TLSCert == "" {
		wrong("client_ca", c.ClientCA, "needs tls_cert and tls_key")
	}
	return errors.Join(errs...)
}

// tls returns nil where streams are served in the clear. The certificate is read
// again for each connection, so that it can be renewed.
func (c Config) tls() (*tls.Config, error) {
	if c.TLSCert == "" {
		return nil, nil
	}
	load := func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		cert, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
		if err != nil {
			return nil, fmt.Errorf("load certificate of streams: %w", err)
		}
		return &cert, nil
	}
	if _, err := load(nil); err != nil {
		return nil, err
	}
	// SPDY and WebSocket upgrade HTTP/1.1 connections: HTTP/2 has no such thing for them.
	out := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: load, NextProtos: []string{"http/1.1"}}
	if c.ClientCA == "" {
		return out, nil
	}
	pem, err := os.ReadFile(c.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("read authorities of clients: %w", err)
	}
	out.ClientCAs = x509.NewCertPool()
	if !out.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read authorities of clients: no certificate in %s", c.ClientCA)
	}
	out.ClientAuth = tls.RequireAndVerifyClientCert
	return out, nil
}
