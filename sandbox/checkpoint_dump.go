package sandbox

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	metadata "github.com/checkpoint-restore/checkpointctl/lib"
	"github.com/moby/sys/mountinfo"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-runtime/berth/oci/criu"
)

// dump is that of one container, in a directory that becomes an archive:
//
//	checkpoint/       criu's images
//	rootfs-diff.tar   what the container changed of its image, as a layer
//	spec.dump         its Spec           config.dump  what it was made from
//	network.status    its addresses      status       when it was made and started
//	dump.log, stats-dump                 criu's
type dump struct {
	checkpoints *checkpoints
	c           *container
	spec        *specs.Spec
	dir         string
}

func (ck *checkpoints) newDump(c *container, dir string) (*dump, error) {
	s, err := ck.builder.specOf(c)
	if err != nil {
		return nil, err
	}
	own := func(m specs.Mount) bool { return m.Type == "devpts" && m.Destination == "/dev/pts" }
	if s.Process.Terminal && !slices.ContainsFunc(s.Mounts, own) {
		return nil, fmt.Errorf("checkpoint of a container whose terminal is the host's, as a volume is mounted on /dev: not possible: %w", ErrState)
	}
	return &dump{checkpoints: ck, c: c, spec: s, dir: dir}, nil
}

// run dumps. seized is called when all processes are stopped, captured when the dump is complete and they are still.
func (d *dump) run(ctx context.Context, seized, captured func() error) error {
	proc := d.c.running()
	if proc == nil {
		return stateError("container", d.c.id, d.c.now().State)
	}
	defer proc.release()
	images := filepath.Join(d.dir, metadata.CheckpointDirectory)
	if err := os.Mkdir(images, 0o700); err != nil {
		return fmt.Errorf("make directory for images: %w", err)
	}
	err := d.checkpoints.parts.CRIU.Dump(ctx, criu.Dump{
		PID: proc.pid, Images: images, Work: d.dir, External: externalMounts(d.spec, proc.pid), Seized: seized,
		Captured: func() error {
			if err := d.writeChanges(ctx); err != nil || captured == nil {
				return err
			}
			return captured()
		},
	})
	if err != nil {
		return err
	}
	return d.describe()
}

func (d *dump) writeChanges(ctx context.Context) error {
	f, err := os.OpenFile(filepath.Join(d.dir, metadata.RootFsDiffTar), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := d.checkpoints.parts.Images.WriteChanges(ctx, d.c.id, f); err != nil {
		return err
	}
	return f.Close()
}

// externalMounts are the mounts of a container that criu isn't to make: what is the host's, with what is mounted below it, and
// its view of the cgroups.
func externalMounts(s *specs.Spec, pid int) []string {
	var roots []string
	for _, m := range s.Mounts {
		if m.Type == "bind" || m.Type == "cgroup" {
			roots = append(roots, m.Destination)
		}
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil { // it has ended, which the dump will find
		return roots
	}
	defer f.Close()
	mounts, err := mountinfo.GetMountsFromReader(f, func(m *mountinfo.Info) (skip, stop bool) {
		return !slices.ContainsFunc(roots, func(root string) bool {
			return m.Mountpoint == root || strings.HasPrefix(m.Mountpoint, root+"/")
		}), false
	})
	if err != nil {
		return roots
	}
	var out []string
	for _, m := range mounts {
		if !slices.Contains(out, m.Mountpoint) { // one may cover another
			out = append(out, m.Mountpoint)
		}
	}
	return out
}

// describe writes what others, and a restore, want to know of the container.
func (d *dump) describe() error {
	rec, pod := d.c.now(), d.c.pod.now()
	s := *d.spec
	// What checkpointctl shows, by the names that containerd has for it.
	s.Annotations = maps.Clone(s.Annotations)
	if s.Annotations == nil {
		s.Annotations = map[string]string{}
	}
	s.Annotations["io.container.manager"] = Handler
	s.Annotations["io.kubernetes.cri.container-name"] = rec.Config.Metadata.Name
	s.Annotations["io.kubernetes.cri.sandbox-name"] = pod.Config.Metadata.Name
	s.Annotations["io.kubernetes.cri.sandbox-namespace"] = pod.Config.Metadata.Namespace
	for name, value := range map[string]any{
		metadata.SpecDumpFile: s,
		metadata.ConfigDumpFile: metadata.ContainerConfig{
			ID: rec.ID, Name: rec.Config.Metadata.Name, OCIRuntime: Handler, CreatedTime: rec.CreatedAt, CheckpointedAt: time.Now(),
			RootfsImage: rec.Image.Name, RootfsImageName: rec.Image.Name, RootfsImageRef: rec.Image.ID,
		},
		metadata.StatusFile: metadata.ContainerdStatus{
			CreatedAt: rec.CreatedAt.UnixNano(), StartedAt: rec.StartedAt.UnixNano(), Pid: uint32(rec.PID),
		},
		metadata.NetworkStatusFile: networkStatus(pod.IPs),
	} {
		if _, err := metadata.WriteJSONFile(value, d.dir, name); err != nil {
			return fmt.Errorf("describe container: %w", err)
		}
	}
	return nil
}

// networkStatus has a pod's addresses as Podman's file does, where checkpointctl looks for them.
func networkStatus(addresses []netip.Addr) map[string]any {
	var subnets []map[string]string
	for _, a := range addresses {
		subnets = append(subnets, map[string]string{"ipnet": netip.PrefixFrom(a, a.BitLen()).String()})
	}
	return map[string]any{Handler: map[string]any{"interfaces": map[string]any{"eth0": map[string]any{"subnets": subnets}}}}
}
