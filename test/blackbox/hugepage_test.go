package blackbox

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
)

// TestRootHugePages: an emptyDir of huge pages is a hugetlbfs that kubelet mounts, and a container's limit is what it may
// have of its pages.
func TestRootHugePages(t *testing.T) {
	harness.NeedRoot(t)
	const reserved = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages"
	text, err := os.ReadFile(reserved)
	if n, _ := strconv.Atoi(strings.TrimSpace(string(text))); err != nil || n < 8 {
		t.Skip("this machine has fewer than 8 free pages of 2 MiB")
	}
	d := start(t)
	volume := t.TempDir()
	check(t, unix.Mount("nodev", volume, "hugetlbfs", 0, "pagesize=2M"))
	t.Cleanup(func() { check(t, unix.Unmount(volume, 0)) })
	config := harness.ContainerConfig("huge", harness.Sleep)
	config.Mounts = []*cri.Mount{{HostPath: volume, ContainerPath: "/hugepages"}}
	limit := func(pages uint64) []*cri.HugepageLimit {
		return []*cri.HugepageLimit{{PageSize: "2MB", Limit: pages * 2 << 20}, {PageSize: "1GB", Limit: 0}}
	}
	config.Linux.Resources.HugepageLimits = limit(2)
	pod := d.RunPod(d.PodConfig("huge"))
	c := pod.Run(config)
	want(t, "limit", c.Limit("hugetlb/hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max"), strconv.Itoa(4<<20))
	want(t, "limit of reservations", c.Limit("hugetlb/hugetlb.2MB.rsvd.limit_in_bytes", "hugetlb.2MB.rsvd.max"), strconv.Itoa(4<<20))
	take := func(pages int, file string) string {
		return c.Exec("fallocate -l " + strconv.Itoa(pages*2<<20) + " /hugepages/" + file + " 2>/dev/null && echo given || echo refused")
	}
	want(t, "file system", c.Exec("grep -c ' /hugepages hugetlbfs ' /proc/mounts"), "1")
	want(t, "two pages", take(2, "two"), "given")
	want(t, "usage", c.Limit("hugetlb/hugetlb.2MB.usage_in_bytes", "hugetlb.2MB.current"), strconv.Itoa(4<<20))
	want(t, "a third", take(1, "third"), "refused")
	check(t, updateResources(d, c.ID, &cri.LinuxContainerResources{HugepageLimits: limit(3)}))
	want(t, "a third with a limit of three", take(1, "third"), "given")
	want(t, "limits in the status", len(c.Status().Resources.GetLinux().GetHugepageLimits()), 2)

	none := harness.ContainerConfig("none", harness.Sleep)
	none.Mounts = config.Mounts
	none.Linux.Resources.HugepageLimits = limit(0)
	c = pod.Run(none)
	want(t, "one page where none is allowed", take(1, "none"), "refused")
}
