package rival

import (
	"fmt"
	"os"
	"path/filepath"
)

// config is containerd's: what it has by default, but for places, and two things that this machine may not let
// it do: move a score of the out-of-memory killer below its own (CAP_SYS_RESOURCE), and NRI's socket in /var/run.
const config = `version = 4
root = %[1]q
state = %[2]q
imports = []

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = %[5]q

[plugins.'io.containerd.cri.v1.images'.registry]
config_path = '%[1]s/certs.d'

[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
cdi_spec_dirs = ['%[1]s/cdi']

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['%[1]s/cni-bin']
conf_dir = '%[1]s/net.d'

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
runtime_path = %[3]q

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = %[4]q
Root = '%[2]s/runc'

[plugins.'io.containerd.image-verifier.v1.bindir']
bin_dir = '%[1]s/verifiers'

[plugins.'io.containerd.internal.v1.opt']
path = '%[1]s/opt'

[plugins.'io.containerd.nri.v1.nri']
disable = true

[plugins.'io.containerd.server.v1.grpc']
address = '%[2]s/c.sock'

[plugins.'io.containerd.server.v1.ttrpc']
address = '%[2]s/c.sock.ttrpc'

[plugins.'io.containerd.shim.v1.manager']
socket_dir = '%[2]s/s'

%[6]s`

// writeConfig lays out the directory, and returns the configuration's path.
func (c *Containerd) writeConfig(programs, runc string, o Options) (string, error) {
	for _, dir := range []string{"certs.d", "cdi", "cni-bin", "net.d", "opt", "verifiers"} {
		if err := os.MkdirAll(filepath.Join(c.root, dir), 0o755); err != nil {
			return "", err
		}
	}
	if o.Registry != nil {
		if err := o.Registry.WriteCerts(filepath.Join(c.root, "certs.d")); err != nil {
			return "", err
		}
	}
	text := fmt.Sprintf(config, c.root, c.state, filepath.Join(programs, shim), runc, Pause, o.Config)
	path := filepath.Join(c.Dir, "config.toml")
	return path, os.WriteFile(path, []byte(text), 0o644)
}
