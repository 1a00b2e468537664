package blackbox

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
)

// writeHosts is the hosts.toml of the registry that busybox is from, with further files beside it.
func writeHosts(t *testing.T, d *harness.Daemon, text string, beside map[string][]byte) {
	t.Helper()
	host, _, _ := strings.Cut(images.Busybox, "/")
	dir := filepath.Join(d.Dir, "certs.d", host)
	check(t, os.MkdirAll(dir, 0o755))
	check(t, os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(text), 0o644))
	for name, content := range beside {
		check(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
}

func pull(t *testing.T, d *harness.Daemon, ref string) error {
	t.Helper()
	_, err := d.Images.PullImage(d.Context(), &cri.PullImageRequest{Image: &cri.ImageSpec{Image: ref}})
	return err
}

// TestRootPullThroughProxy: the daemon's environment names a proxy, and what is not to be asked through it.
func TestRootPullThroughProxy(t *testing.T) {
	harness.NeedRoot(t)
	var asked atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Host == "registry.invalid" { // as a proxy is asked: with the whole address
			asked.Add(1)
		}
		bed.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	t.Setenv("HTTP_PROXY", proxy.URL)
	d := harness.Start(t, harness.Options{})
	writeHosts(t, d, "server = \"http://registry.invalid\"\n", nil)
	check(t, pull(t, d, images.Busybox))
	if asked.Load() < 3 {
		t.Errorf("the proxy was asked %d times", asked.Load())
	}
}

// keyPair is a certificate that signs itself, and its key, in PEM.
func keyPair(t *testing.T) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	check(t, err)
	raw, err := x509.MarshalECPrivateKey(private)
	check(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw})
}

// TestRootPullByHostsFile: what a hosts.toml can say of a host, and that a pull fails without it.
func TestRootPullByHostsFile(t *testing.T) {
	harness.NeedRoot(t)
	mirror := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rest, found := strings.CutPrefix(r.URL.Path, "/deep/inside/")
		if !found || r.Header.Get("X-Berth") != "yes" || len(r.TLS.PeerCertificates) == 0 {
			http.Error(w, "not so", http.StatusTeapot)
			return
		}
		r.URL.Path = "/v2/" + rest
		bed.ServeHTTP(w, r)
	}))
	mirror.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	mirror.StartTLS()
	defer mirror.Close()
	certificate, key := keyPair(t)
	files := map[string][]byte{
		"ca.pem":     pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: mirror.Certificate().Raw}),
		"client.pem": certificate, "client.key": key,
	}
	d := harness.Start(t, harness.Options{})
	lines := map[string]string{
		"ca": `ca = "ca.pem"`, "client": `client = [["client.pem", "client.key"]]`, "override_path": "override_path = true",
		"header": fmt.Sprintf("[host.%q.header]\nx-berth = \"yes\"", mirror.URL+"/deep/inside"),
	}
	hosts := func(without string) string {
		text := fmt.Sprintf("server = \"https://127.0.0.1:1\"\n[host.%q]\ncapabilities = [\"pull\", \"resolve\"]\n", mirror.URL+"/deep/inside")
		for _, name := range []string{"ca", "client", "override_path", "header"} { // the table last
			if name != without {
				text += lines[name] + "\n"
			}
		}
		return text
	}
	for name := range lines {
		writeHosts(t, d, hosts(name), files)
		err := pull(t, d, images.Busybox)
		if err == nil || !strings.Contains(err.Error(), strings.TrimPrefix(mirror.URL, "https://")) || !strings.Contains(err.Error(), "127.0.0.1:1: ") {
			t.Errorf("without %s: %v; wanted an error that names both hosts", name, err)
		}
	}
	writeHosts(t, d, strings.Replace(hosts(""), "\"pull\", \"resolve\"", "\"pull\"", 1), files)
	if err := pull(t, d, images.Busybox); err == nil {
		t.Error("a host that may not resolve has resolved")
	}
	writeHosts(t, d, strings.Replace(hosts("ca"), "override_path", "skip_verify = true\noverride_path", 1), files)
	check(t, pull(t, d, images.Busybox))
	_, err := d.Images.RemoveImage(d.Context(), &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: images.Busybox}})
	check(t, err)
	writeHosts(t, d, hosts(""), files)
	check(t, pull(t, d, images.Busybox))
}
