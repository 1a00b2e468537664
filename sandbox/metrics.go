package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/berth-runtime/berth/cni"
	"github.com/berth-runtime/berth/oci/cgroup"
	"golang.org/x/sys/unix"
)

// What cgroups count for metrics alone.
type (
	// Detail is what few ask for of a cgroup.
	Detail = cgroup.Detail
	// CPUDetail is the part of Detail that is of processors.
	CPUDetail = cgroup.CPUDetail
	// MemoryDetail is the part that is memory.
	MemoryDetail = cgroup.MemoryDetail
	// HugepageUsage is of one page size.
	HugepageUsage = cgroup.HugepageUsage
	// DiskUsage is what a cgroup read and wrote of a block device.
	DiskUsage = cgroup.DiskUsage
)

// ContainerMetrics is all that is counted of a running container. It is immutable.
type ContainerMetrics struct {
	*ContainerStats
	Detail    *Detail
	Processes *ProcessMetrics // nil: its processes could not be looked at
}

// PodMetrics is all that is counted of a ready pod. It is immutable.
type PodMetrics struct {
	*PodStats
	Cgroup     string  // its own, which kubelet made; "": it has none
	Detail     *Detail // of that
	Containers []*ContainerMetrics
}

// Collected is when the oldest of its figures, without its containers', was measured.
func (p *PodMetrics) Collected() time.Time {
	if p.Network != nil && p.Network.At.Before(p.Usage.At) {
		return p.Network.At
	}
	return p.Usage.At
}

// ProcessMetrics is of a container's processes, execs among them.
type ProcessMetrics struct {
	At            time.Time
	Processes     uint64
	Descriptors   *uint64 // open files, sockets among them; nil: more than are looked at
	Sockets       *uint64
	OpenFileLimit *uint64 // the first process's soft one; nil: it has ended. RLIM_INFINITY: none
}

// FilesystemStats is the space of a file system. It is of the node, not of a container.
type FilesystemStats struct {
	Device                string // "/dev/sda1", or its number
	Bytes, Inodes         uint64
	FreeBytes, FreeInodes uint64
	Mountpoint            string
	ReadAt                time.Time
}

// most descriptors of one container's are looked at, in so many processes: a metric may not cost more than what it measures.
const (
	mostDescriptors = 20000
	mostProcesses   = 500
)

// Metrics measures all ready pods and their running containers, the oldest first. What ends meanwhile is left out.
func (s *statistics) Metrics() []*PodMetrics {
	var out []*PodMetrics
	s.eachReady(PodStatsFilter{}, func(info *PodInfo, containers []*ContainerInfo) {
		stats, err := s.podStats(info, containers)
		if err != nil {
			s.unmeasured("pod", info.ID, err)
			return
		}
		pod := &PodMetrics{PodStats: stats}
		if pod.Cgroup = s.podGroup(info); pod.Cgroup != "" {
			if pod.Detail, err = s.host.meter(pod.Cgroup).Detail(); err != nil {
				s.unmeasured("pod", info.ID, err)
			}
		}
		for _, c := range stats.Containers {
			if metrics, err := s.containerMetrics(c); err != nil {
				s.unmeasured("container", c.Container.ID, err)
			} else {
				pod.Containers = append(pod.Containers, metrics)
			}
		}
		out = append(out, pod)
	})
	return out
}

func (s *statistics) containerMetrics(stats *ContainerStats) (*ContainerMetrics, error) {
	detail, err := s.host.meter(stats.Container.Cgroup).Detail()
	if err != nil {
		return nil, fmt.Errorf("measure container %s: %w", stats.Container.ID, err)
	}
	out := &ContainerMetrics{ContainerStats: stats, Detail: detail}
	if out.Processes, err = s.host.processes(stats.Container.Cgroup, stats.Container.PID); err != nil {
		s.unmeasured("container", stats.Container.ID, err)
	}
	return out, nil
}

// FilesystemStats is of where the writable layers are.
func (s *statistics) FilesystemStats() (*FilesystemStats, error) {
	return filesystemStats(s.parts.Images.Mountpoint())
}

func filesystemStats(dir string) (*FilesystemStats, error) {
	var fs unix.Statfs_t
	var stat unix.Stat_t
	for _, call := range []func() error{func() error { return unix.Statfs(dir, &fs) }, func() error { return unix.Stat(dir, &stat) }} {
		err := call()
		for errors.Is(err, unix.EINTR) {
			err = call()
		}
		if err != nil {
			return nil, fmt.Errorf("look at file system of %s: %w", dir, err)
		}
	}
	size := uint64(fs.Bsize)
	return &FilesystemStats{
		Device: DeviceName(unix.Major(stat.Dev), unix.Minor(stat.Dev)), Bytes: fs.Blocks * size, Inodes: fs.Files,
		FreeBytes: fs.Bavail * size, FreeInodes: fs.Ffree, Mountpoint: dir, ReadAt: time.Now(),
	}, nil
}

// DeviceName is a block device's path in /dev, as the kernel calls it; "major:minor" when it is none.
func DeviceName(major, minor uint32) string {
	number := fmt.Sprintf("%d:%d", major, minor)
	text, err := os.ReadFile("/sys/dev/block/" + number + "/uevent")
	if err != nil {
		return number
	}
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "DEVNAME="); ok {
			return "/dev/" + name
		}
	}
	return number
}

func (l linuxCgroups) meter(path string) meter { return l.cgroups.Load(path).Meter() }

func (l *linux) openNetNS(path string) (*os.File, error) { return os.Open(path) }

func (l *linux) counters(namespace *os.File) ([]cni.InterfaceCounters, error) {
	return cni.Counters(int(namespace.Fd()))
}

func (l linuxCgroups) processes(path string, first int) (*ProcessMetrics, error) {
	pids, err := l.cgroups.Load(path).Processes()
	if err != nil {
		return nil, err
	}
	out := &ProcessMetrics{At: time.Now(), Processes: uint64(len(pids))}
	if files, sockets, ok := countDescriptors(pids); ok {
		out.Descriptors, out.Sockets = &files, &sockets
	}
	var limit unix.Rlimit
	if first > 0 && unix.Prlimit(first, unix.RLIMIT_NOFILE, nil, &limit) == nil {
		out.OpenFileLimit = &limit.Cur
	}
	return out, nil
}

// countDescriptors counts what processes have open. ok is false when that is more than may be looked at. A process that
// ends meanwhile has nothing open.
func countDescriptors(pids []int) (files, sockets uint64, ok bool) {
	if len(pids) > mostProcesses {
		return 0, 0, false
	}
	target := make([]byte, 16)
	for _, pid := range pids {
		dir, err := os.Open(filepath.Join("/proc", strconv.Itoa(pid), "fd"))
		if err != nil {
			continue
		}
		names, _ := dir.Readdirnames(mostDescriptors)
		files += uint64(len(names))
		if files > mostDescriptors {
			dir.Close()
			return 0, 0, false
		}
		for _, name := range names {
			if n, err := unix.Readlinkat(int(dir.Fd()), name, target); err == nil && strings.HasPrefix(string(target[:n]), "socket:") {
				sockets++
			}
		}
		dir.Close()
	}
	return files, sockets, true
}
