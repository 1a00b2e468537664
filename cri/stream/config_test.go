package stream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		change func(*Config)
		want   string // "": valid
	}{
		{func(*Config) {}, ""},
		{func(c *Config) { c.Address = "node.example:10010" }, ""},
		{func(c *Config) { c.Address = "[::1]:0" }, ""},
		{func(c *Config) { c.Address = ":0" }, "address"},
		{func(c *Config) { c.Address = "0.0.0.0:0" }, "address"},
		{func(c *Config) { c.Address = "127.0.0.1" }, "address"},
		{func(c *Config) { c.IdleTimeout = -1 }, "idle_timeout"},
		{func(c *Config) { c.TLSCert = "/c.pem" }, "tls_cert"},
		{func(c *Config) { c.TLSKey = "/k.pem" }, "tls_cert"},
		{func(c *Config) { c.TLSCert, c.TLSKey = "c.pem", "/k.pem" }, "tls_cert c.pem"},
		{func(c *Config) { c.ClientCA = "/ca.pem" }, "client_ca"},
		{func(c *Config) { c.TLSCert, c.TLSKey, c.ClientCA = "/c.pem", "/k.pem", "/ca.pem" }, ""},
	} {
		cfg := DefaultConfig()
		c.change(&cfg)
		err := cfg.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", cfg, err, c.want)
		}
	}
}

// authority signs certificates.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.make(name, nil)
	return a
}

// make makes a certificate, signed by the authority or by itself.
func (a *authority) make(name string, signer *authority) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(time.Hour), IsCA: signer == nil, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	parent, by := template, key
	if signer != nil {
		parent, by = signer.cert, signer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// issue writes a certificate and its key, and returns their paths.
func (a *authority) issue(name string) (certFile, keyFile string) {
	a.t.Helper()
	cert, key := a.make(name, a)
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write(name+".pem", "CERTIFICATE", cert.Raw), a.write(name+".key", "EC PRIVATE KEY", der)
}

func (a *authority) file() string { return a.write("ca.pem", "CERTIFICATE", a.cert.Raw) }

func (a *authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func TestTLSConfigFails(t *testing.T) {
	a := newAuthority(t, "ca")
	cert, key := a.issue("server")
	for name, cfg := range map[string]Config{
		"no certificate":       {TLSCert: a.dir + "/none", TLSKey: key},
		"not its key":          {TLSCert: a.file(), TLSKey: key},
		"no authorities":       {TLSCert: cert, TLSKey: key, ClientCA: a.dir + "/none"},
		"a key as authorities": {TLSCert: cert, TLSKey: key, ClientCA: key},
	} {
		if _, err := cfg.tls(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if c, err := (Config{}).tls(); c != nil || err != nil {
		t.Errorf("without TLS: %v, %v", c, err)
	}
}

// TestTLSRenewed has the certificate replaced under a running server.
func TestTLSRenewed(t *testing.T) {
	a := newAuthority(t, "ca")
	cfg := DefaultConfig()
	cfg.TLSCert, cfg.TLSKey = a.issue("server")
	s := serving(t, cfg, &fakeRuntime{})
	name := func() string {
		conn, err := tls.Dial("tcp", s.listener.Addr().String(), &tls.Config{RootCAs: a.pool()})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if got := name(); got != "server" {
		t.Errorf("certificate of %s", got)
	}
	cert, key := a.issue("renewed")
	for from, to := range map[string]string{cert: cfg.TLSCert, key: cfg.TLSKey} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	if got := name(); got != "renewed" {
		t.Errorf("certificate of %s", got)
	}
}
