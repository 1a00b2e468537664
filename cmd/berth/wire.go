package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/berth-runtime/berth/cni"
	"github.com/berth-runtime/berth/cri"
	"github.com/berth-runtime/berth/cri/stream"
	"github.com/berth-runtime/berth/cri/trace"
	"github.com/berth-runtime/berth/imagestore"
	"github.com/berth-runtime/berth/nri"
	"github.com/berth-runtime/berth/oci"
	"github.com/berth-runtime/berth/oci/cgroup"
	"github.com/berth-runtime/berth/oci/criu"
	"github.com/berth-runtime/berth/oci/selinux"
	"github.com/berth-runtime/berth/sandbox"
	"github.com/berth-runtime/berth/sandbox/keeper"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"
)

// rooms are the parts of a daemon, opened.
type rooms struct {
	images  *imagestore.Store
	network *cni.Network
	keeper  *keeper.Client
	cgroups *cgroup.Tree
	systemd *cgroup.Manager // nil: the driver is cgroupfs
	own     *keeperCgroup
	node    *oci.Node
	plugins *nri.Plugins
	pods    *sandbox.Manager
}

// openRooms opens every room below the configuration's directories and wires them
// together. Those that need nothing of each other open at the same time; the
// sandbox comes last, and recovers what the others hold. After an error nothing is
// left open.
func openRooms(ctx context.Context, cfg config, log *logrus.Logger) (*rooms, error) {
	r := &rooms{}
	var group errgroup.Group // not WithContext: what one opened stays usable until close
	group.Go(func() (err error) {
		dir := filepath.Join(cfg.Root, "images")
		if cfg.Sandbox.SELinux {
			if err := (&selinux.Host{}).LabelImages(dir); err != nil {
				return err
			}
		}
		r.images, err = imagestore.Open(ctx, dir, cfg.Images, log)
		return wrap("open images", err)
	})
	group.Go(func() (err error) {
		r.network, err = cni.New(cfg.Network, filepath.Join(cfg.State, "cni"), log)
		return wrap("open network", err)
	})
	group.Go(func() error {
		return r.openProcesses(ctx, cfg, log)
	})
	err := group.Wait()
	if err == nil {
		err = r.openPods(ctx, cfg, log)
	}
	if err != nil {
		r.close(ctx, log)
		return nil, err
	}
	return r, nil
}

// openProcesses looks at the node and connects to the keeper, which is started
// where none runs.
func (r *rooms) openProcesses(ctx context.Context, cfg config, log *logrus.Logger) (err error) {
	r.cgroups, err = cgroup.Detect(cgroupMount, cgroup.OnWarning(func(w cgroup.Warning) {
		log.WithFields(logrus.Fields{"op": w.Feature, "error": w.Err}).Warn("cgroup feature not granted")
	}))
	if err != nil {
		return fmt.Errorf("find cgroups: %w", err)
	}
	if cfg.Sandbox.CgroupDriver == "systemd" {
		if r.systemd, err = cgroup.ConnectSystemd(ctx); err != nil {
			return wrap("cgroup_driver systemd", err)
		}
	}
	r.node, err = oci.Probe(func(what string) {
		log.WithField("op", what).Warn("clamped to what the node grants")
	})
	if err != nil {
		return fmt.Errorf("look at the node: %w", err)
	}
	binary, err := cfg.keeper()
	if err != nil {
		return err
	}
	if r.own, err = newKeeperCgroup(r.cgroups, r.systemd, cfg); err != nil {
		return err
	}
	r.keeper, err = keeper.Connect(ctx, keeper.Config{
		Dir:      filepath.Join(cfg.State, "keeper"),
		Binary:   binary,
		StateDir: cfg.State,
		Enter:    r.own.enterSoon(log),
		Log:      log,
	})
	return wrap("connect to keeper", err)
}

func (r *rooms) openPods(ctx context.Context, cfg config, log *logrus.Logger) (err error) {
	own := cfg.Sandbox
	own.Root, own.State, own.Runtimes, own.ShowPods = cfg.Root, cfg.State, cfg.Runtimes, cfg.Cadvisor.Socket != ""
	if own.KeeperBinary, err = cfg.keeper(); err != nil {
		return err
	}
	if r.plugins, err = nri.New(ctx, cfg.NRI, version, log); err != nil {
		return err
	}
	r.pods, err = sandbox.Open(ctx, own, sandbox.Parts{
		Network:  r.network,
		Images:   r.images,
		Keeper:   r.keeper,
		Programs: r.node,
		Cgroups:  r.cgroups,
		Systemd:  r.systemd,
		Plugins:  r.plugins,
		CRIU:     criu.New(cfg.Sandbox.CRIU),
		Rested:   debug.FreeOSMemory, // what many pods at once took; left alone, Go gives it back over minutes
		Log:      log,
	})
	if err != nil {
		return wrap("recover pods", err)
	}
	return r.plugins.Open(r.pods)
}

// door is what the CRI door says of this daemon. What it says that the node can do has been tried.
func (r *rooms) door(ctx context.Context, cfg config, tracer *trace.Tracer, log *logrus.Logger) cri.Config {
	users := r.pods.UserNamespaces(ctx)
	if users != nil {
		log.WithFields(logrus.Fields{"op": "user namespaces", "error": users}).Warn("node lacks a feature")
	}
	attributes := works(mountSetattr)
	own := cri.Handler{Name: sandbox.Handler, RecursiveReadOnly: attributes, UserNamespaces: users == nil}
	return cri.Config{
		Version:  version,
		API:      cfg.API,
		Tracer:   tracer,
		Handlers: append(cri.Handlers{own}, foreignHandlers(ctx, cfg, log)...),
		Features: cri.Features{
			SupplementalGroupsPolicy:  works(setGroups),
			UserNamespacesHostNetwork: users == nil,
			MountOptions:              attributes,
		},
		Info: func() map[string]any {
			network := "OK" // as containerd says it
			if err := r.network.Status(); err != nil {
				network = strings.ReplaceAll(err.Error(), "\n", "; ")
			}
			return map[string]any{
				"config":            cfg.inEffect(),
				"version":           version + revision(),
				"golang":            runtime.Version(),
				"keeper":            map[string]any{"pid": r.keeper.PID()},
				"lastCNILoadStatus": network,
				"layerFormat":       r.images.LayerFormat(),
				"writableLayers":    r.images.Measuring(),
			}
		},
	}
}

// parts are what the CRI door stands on.
func (r *rooms) parts(streams *stream.Server, log *logrus.Logger) cri.Parts {
	return cri.Parts{Pods: r.pods, Containers: r.pods, Node: r.pods, Images: r.images, Programs: r.pods, Streams: streams, Stats: r.pods, Checkpoints: r.pods, Log: log}
}

// close closes what is open, the sandbox first. The keeper ends when it keeps
// nothing; containers run on with it otherwise.
func (r *rooms) close(ctx context.Context, log *logrus.Logger) {
	failed := func(room string, err error) {
		if err != nil {
			log.WithFields(logrus.Fields{"op": "close " + room, "error": err}).Warn("room did not close")
		}
	}
	if r.pods != nil {
		failed("pods", r.pods.Close())
	}
	if r.plugins != nil {
		r.plugins.Close()
	}
	if r.keeper != nil {
		failed("keeper", r.closeKeeper(ctx))
	}
	if r.systemd != nil {
		r.systemd.Close()
	}
	if r.network != nil {
		failed("network", r.network.Close())
	}
	if r.images != nil {
		failed("images", r.images.Close())
	}
}

// closeKeeper leaves the keeper alone when it keeps something.
func (r *rooms) closeKeeper(ctx context.Context) error {
	err := r.keeper.Shutdown(ctx)
	if errors.Is(err, keeper.ErrKept) {
		return r.keeper.Close()
	}
	return errors.Join(err, r.keeper.Close(), r.own.remove(ctx))
}

// wrap says what was being done, if it went wrong.
func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
