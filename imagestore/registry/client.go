package registry

import (
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"
)

// Options say how registries are asked.
type Options struct {
	// ConfigDir has the hosts.toml directories, read anew for each image; "": there are none.
	ConfigDir string
	// AuthFile is a docker config.json with credentials for pulls that bring none, read anew whenever a host asks for some. It needn't be there.
	AuthFile string
	// UserAgent is what hosts are told.
	UserAgent string
	// Stall is how long a host may take to name an image, and a blob's connection to bring nothing. 0: a minute.
	Stall time.Duration
	// MinRate is the least a blob's connection must bring, in bytes a second over half of Stall.
	MinRate int64
	// Ranges is how many parts of a blob of RangesFrom bytes or more are asked for at once. 0 and 1: one after the other is enough.
	Ranges     int
	RangesFrom int64
}

// Client asks registries. It holds no connection and no credential of its own, and is safe for concurrent use.
type Client struct {
	Options
	busyPause time.Duration
	spare     chan struct{} // taken for each part in flight beyond a blob's first
}

// New returns a client.
func New(options Options) *Client {
	if options.Stall == 0 {
		options.Stall = time.Minute
	}
	return &Client{Options: options, busyPause: busyPause, spare: make(chan struct{}, spareParts)}
}

// Repository is where an image was found. Its connections live until Close.
type Repository struct {
	client *Client
	name   reference.Named
	hosts  []host        // the one that resolved the name first
	top    digest.Digest // what it resolved to
	bad    hostErrors    // hosts that were given up by Next
	whole  atomic.Bool   // a host answered a request for a part of a blob with something else
}

// host is one place to ask, with containerd's client restricted to it, so that each can be reported.
type host struct {
	name     string
	client   *http.Client
	resolver remotes.Resolver
	ref      string
	caps     docker.HostCapabilities
}

// Resolve finds out what ref names now. ref has a tag or a digest. The error wraps ErrNotFound, ErrDenied, ErrUnavailable or the context's
// cause, and names every host that was asked.
func (c *Client) Resolve(ctx context.Context, ref reference.Named, auth *Auth) (*Repository, ocispec.Descriptor, error) {
	hosts, err := c.hosts(ctx, ref, auth)
	if err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	repo := &Repository{client: c, name: ref, hosts: hosts}
	desc, err := repo.resolve(quiet(ctx))
	if err != nil {
		repo.Close()
		return nil, ocispec.Descriptor{}, err
	}
	return repo, desc, nil
}

// Next gives up the host that resolved the name, whose content was found to be bad, and resolves it anew at the others. Its errors are those
// of Resolve, and also name the hosts given up and why; when there is no other host, the error is bad.
func (r *Repository) Next(ctx context.Context, bad error) (ocispec.Descriptor, error) {
	given := r.hosts[0]
	given.client.CloseIdleConnections()
	r.bad = append(r.bad, hostError{host: given.name, kind: ErrCorrupt, err: bad})
	r.hosts = r.hosts[1:]
	r.whole.Store(false) // of the others nothing is known
	if len(r.hosts) == 0 && len(r.bad) == 1 {
		return ocispec.Descriptor{}, bad
	}
	return r.resolve(quiet(ctx))
}

// resolve asks the hosts one after the other, and puts the one that answered first.
func (r *Repository) resolve(ctx context.Context) (ocispec.Descriptor, error) {
	failed := slices.Clone(r.bad)
	for i, h := range r.hosts {
		if !h.mayResolve(r.name) {
			continue
		}
		desc, err := r.client.ask(ctx, h, i == len(r.hosts)-1)
		if err == nil {
			r.hosts = append([]host{h}, append(append([]host{}, r.hosts[:i]...), r.hosts[i+1:]...)...)
			r.top = desc.Digest
			return desc, nil
		}
		if ctx.Err() != nil {
			return ocispec.Descriptor{}, fmt.Errorf("resolve %s: %w", r.name, context.Cause(ctx))
		}
		failed = append(failed, newHostError(h.name, err))
	}
	return ocispec.Descriptor{}, wrapHosts("resolve", r.name, failed)
}

// ask asks one host for what the reference names.
func (c *Client) ask(ctx context.Context, h host, last bool) (desc ocispec.Descriptor, err error) {
	err = within(ctx, c.Stall, last, func(ctx context.Context) error {
		_, desc, err = h.resolver.Resolve(ctx, h.ref)
		return err
	})
	if kind, _, parsed := mime.ParseMediaType(desc.MediaType); err == nil && parsed == nil && kind == "text/html" {
		err = fmt.Errorf("%w: no registry, it answers with a page (%s)", ErrUnavailable, kind)
	}
	return desc, err
}

// within gives one host so much time for a call and no more, pauses that it asks for aside. last: there is no other to be asked.
func within(ctx context.Context, stall time.Duration, last bool, call func(context.Context) error) error {
	if last {
		ctx = lastHost(ctx)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(stall, func() { cancel(fmt.Errorf("%w: no answer for %s", ErrUnavailable, stall)) })
	defer timer.Stop()
	ctx = OnRest(ctx, func(pause time.Duration) { timer.Reset(stall + pause) })
	err := call(ctx)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// mayResolve: a host without the capability "resolve" isn't trusted to say what a tag names (hosts.toml).
func (h host) mayResolve(ref reference.Named) bool {
	want := docker.HostCapabilityPull
	if _, byDigest := ref.(reference.Digested); !byDigest {
		want |= docker.HostCapabilityResolve
	}
	return h.caps.Has(want)
}

// hosts are the places to ask, in order.
func (c *Client) hosts(ctx context.Context, ref reference.Named, auth *Auth) ([]host, error) {
	domain := reference.Domain(ref)
	creds, err := auth.bind(domain)
	if err != nil {
		return nil, err
	}
	options := config.HostOptions{UpdateClient: c.patience, Credentials: func(host string) (user, secret string, err error) {
		if creds.allows(host) {
			return creds.user, creds.secret, nil
		}
		return c.fileCredentials(ctx, ref, host)
	}}
	if c.ConfigDir != "" {
		options.HostDir = config.HostDirFromRoot(c.ConfigDir)
	}
	// A hosts.toml that can't be read is logged by the library and then taken as absent. That would ask a registry that
	// the file may be there to avoid.
	logged := &firstError{}
	configured, err := config.ConfigureHosts(logged.context(ctx), options)(domain)
	if err == nil {
		err = logged.get()
	}
	if err != nil {
		return nil, fmt.Errorf("read registry configuration of %s: %w: %w", domain, ErrUnavailable, err)
	}
	hosts := make([]host, len(configured))
	for i, rh := range configured {
		hosts[i] = c.newHost(rh, creds, ref)
	}
	return hosts, nil
}

func (c *Client) newHost(rh docker.RegistryHost, creds credentials, ref reference.Named) host {
	if creds.bearer != "" && creds.allows(rh.Host) {
		rh.Authorizer = bearer{creds}
	}
	only := func(string) ([]docker.RegistryHost, error) { return []docker.RegistryHost{rh}, nil }
	headers := http.Header{"User-Agent": {c.UserAgent}}
	return host{
		name:     rh.Host,
		client:   rh.Client,
		resolver: docker.NewResolver(docker.ResolverOptions{Hosts: only, Headers: headers}),
		ref:      ref.String(),
		caps:     rh.Capabilities,
	}
}

// Close gives back idle connections. Blobs that are open stay so.
func (r *Repository) Close() {
	for _, h := range r.hosts {
		h.client.CloseIdleConnections()
	}
}

// Fetch opens a blob or manifest at the first host that has it. Reading it goes on at the same offset after a broken connection. When no
// host has it, the error of Fetch or of the first Read says so for each. Reading ends when ctx does. Not for concurrent reads; several
// blobs may be read at once.
func (r *Repository) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	// Anybody who makes an image could have the node ask for any address by these. They are for layers that a registry must not pass on, which only
	// Windows has.
	desc.URLs = nil
	if desc.Digest == r.top && !images.IsManifestType(desc.MediaType) && !images.IsIndexType(desc.MediaType) {
		desc.MediaType = ocispec.MediaTypeImageManifest // containerd's client would look for a blob
	}
	var fetchers []fetcher
	for _, h := range r.hosts {
		if !h.caps.Has(docker.HostCapabilityPull) {
			continue
		}
		f, err := h.resolver.Fetcher(ctx, h.ref)
		if err != nil {
			return nil, fmt.Errorf("fetch %s: %w", desc.Digest, err)
		}
		fetchers = append(fetchers, fetcher{host: h.name, Fetcher: f})
	}
	whole := &blob{ctx: quiet(ctx), desc: desc, hosts: fetchers, stall: r.client.Stall, minRate: r.client.MinRate}
	if r.client.Ranges < 2 || desc.Size < max(r.client.RangesFrom, 2*partSize) || r.whole.Load() {
		return whole, nil
	}
	return newParts(whole, r), nil
}

// quiet keeps containerd's client from the process-wide logger. What matters of what it logs is in the errors that it returns.
func quiet(ctx context.Context) context.Context {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	logger.SetLevel(logrus.PanicLevel)
	return log.WithLogger(ctx, logrus.NewEntry(logger))
}

// firstError keeps the first error that a library only logs.
type firstError struct {
	mu  sync.Mutex
	err error
}

func (f *firstError) context(ctx context.Context) context.Context {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	logger.SetLevel(logrus.ErrorLevel)
	logger.AddHook(f)
	return log.WithLogger(ctx, logrus.NewEntry(logger))
}

// Levels and Fire make it a logrus.Hook.
func (f *firstError) Levels() []logrus.Level { return []logrus.Level{logrus.ErrorLevel} }

func (f *firstError) Fire(entry *logrus.Entry) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = fmt.Errorf("%s: %w", entry.Message, asError(entry.Data[logrus.ErrorKey]))
	}
	return nil
}

func (f *firstError) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func asError(v any) error {
	if err, is := v.(error); is {
		return err
	}
	return errdefs.ErrUnknown
}
