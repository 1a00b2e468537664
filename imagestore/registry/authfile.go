package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/cli/cli/config/configfile"
	dockercredentials "github.com/docker/cli/cli/config/credentials"
	"github.com/docker/cli/cli/config/types"

	"github.com/berth-runtime/berth/imagestore/fault"
)

// fileCredentials looks up what the node's own credentials file (docker's config.json) has for a host, when the host asks for some. Both
// results are empty when it has nothing. For the registry that ref names, entries of a part of its repositories ("quay.io/team", as podman
// writes them) go before those of the host.
func (c *Client) fileCredentials(ctx context.Context, ref reference.Named, host string) (user, secret string, err error) {
	if c.AuthFile == "" {
		return "", "", nil
	}
	file, err := readAuthFile(c.AuthFile)
	if err != nil || file == nil {
		return "", "", err
	}
	for _, key := range authKeys(ref, host) {
		if entry, found := file.AuthConfigs[key]; found && hasSecret(entry) {
			user, secret = secretOf(entry)
			return user, secret, nil
		}
	}
	return askHelper(ctx, file, host)
}

// readAuthFile gives nil for a file that isn't there.
func readAuthFile(path string) (*configfile.ConfigFile, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	defer f.Close()
	file := configfile.New(path)
	if err := file.LoadFromReader(f); err != nil {
		return nil, fmt.Errorf("read credentials: %s: %w", path, err)
	}
	return file, nil
}

// authKeys are the names under which credentials for a host may stand, the best first.
func authKeys(ref reference.Named, host string) []string {
	var keys []string
	if canonicalHost(reference.Domain(ref)) == canonicalHost(host) {
		for name := ref.Name(); strings.Contains(name, "/"); name = name[:strings.LastIndexByte(name, '/')] {
			keys = append(keys, name)
		}
	}
	return append(keys, hostKeys(host)...)
}

func hostKeys(host string) []string {
	names := []string{host}
	if canonicalHost(host) == "docker.io" {
		names = []string{"docker.io", "index.docker.io", "registry-1.docker.io"}
	}
	var keys []string
	for _, name := range names {
		keys = append(keys, name, "https://"+name+"/v1/", "https://"+name, "https://"+name+"/", "https://"+name+"/v2/", "http://"+name)
	}
	return keys
}

// askHelper runs docker-credential-NAME, where the file names one for the host or for all.
func askHelper(ctx context.Context, file *configfile.ConfigFile, host string) (user, secret string, err error) {
	key, helper := host, ""
	for _, k := range hostKeys(host) {
		if h := file.CredentialHelpers[k]; h != "" {
			key, helper = k, h
			break
		}
	}
	if helper == "" {
		if helper = file.CredentialsStore; helper == "" {
			return "", "", nil
		}
		if canonicalHost(host) == "docker.io" {
			key = "https://index.docker.io/v1/" // as docker login stores it
		}
	}
	type answer struct {
		types.AuthConfig
		err error
	}
	answered := make(chan answer, 1)
	go func() { // ends with the program, which nothing can end sooner
		var a answer
		a.err = fault.Guard(func() (err error) {
			a.AuthConfig, err = dockercredentials.NewNativeStore(file, helper).Get(key)
			return err
		})
		answered <- a
	}()
	select {
	case a := <-answered:
		if a.err != nil {
			return "", "", fmt.Errorf("ask docker-credential-%s for %s: %w", helper, host, a.err)
		}
		user, secret = secretOf(a.AuthConfig)
		return user, secret, nil
	case <-ctx.Done():
		return "", "", context.Cause(ctx)
	}
}

func hasSecret(entry types.AuthConfig) bool {
	return entry.IdentityToken != "" || entry.Username != ""
}

// secretOf: without a user name the secret is an identity token.
func secretOf(entry types.AuthConfig) (user, secret string) {
	if entry.IdentityToken != "" {
		return "", entry.IdentityToken
	}
	return entry.Username, entry.Password
}
