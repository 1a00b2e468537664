package imagestore

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/test/disk"
)

// TestRootPowerCut: after a power cut at any moment of pulls, removals and snapshots, every image that is listed is whole, and what was cut
// takes no space. BERTH_TEST_CUTS says at how many moments; BERTH_TEST_SEED repeats a run's choices, though not its timing.
func TestRootPowerCut(t *testing.T) {
	if !disk.Alone(t) {
		return
	}
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Skip("needs mkfs.ext4: ", err)
	}
	host := serve(t, nil)
	base := layerOf(t, f("base", strings.Repeat("b", 100_000)))
	for i := range 3 {
		push(t, fmt.Sprintf("%s/app:%d", host, i), imageOf(t, base, layerOf(t, f("d/own", fmt.Sprint(i)), f("big", strings.Repeat("x", 300_000)))))
	}
	r := recordChurn(t, host, 4*time.Second)

	seed := uint64(envNumber("BERTH_TEST_SEED", int(time.Now().UnixNano())))
	chance := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	listed := 0
	for range envNumber("BERTH_TEST_CUTS", 50) {
		moment := chance.IntN(r.Moments() + 1)
		image, at := filepath.Join(dir, "cut.img"), filepath.Join(dir, "cut")
		if err := disk.WriteSparse(image, r.Cut(moment, chance)); err != nil {
			t.Fatal(err)
		}
		mountAt(t, image, at)
		listed += checkWhole(t, at+"/images")
		if err := unix.Unmount(at, 0); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			t.Fatalf("cut at moment %d of %d, seed %d", moment, r.Moments(), seed)
		}
	}
	if listed == 0 {
		t.Error("no image was ever listed: nothing was tested")
	}
	t.Logf("%d moments, %d listed images", r.Moments(), listed)
}

// recordChurn lets another process work on a recorded disk for some time, and kills it.
func recordChurn(t *testing.T, host string, long time.Duration) *disk.Recorder {
	t.Helper()
	dir := t.TempDir()
	image, served, at := filepath.Join(dir, "disk.img"), filepath.Join(dir, "served"), filepath.Join(dir, "disk")
	if err := disk.Format(image, 48<<20); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(served, 0o700); err != nil {
		t.Fatal(err)
	}
	r, stop, err := disk.Serve(image, served)
	if err != nil {
		t.Fatal(err)
	}
	mountAt(t, served+"/disk", at)
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), crashEnv+"="+at+"/images "+host)
	var said strings.Builder
	child.Stderr = &said
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(long)
	if err := child.Process.Kill(); err != nil {
		t.Fatalf("the child had ended by itself: %s", said.String())
	}
	child.Wait()
	if said.Len() > 0 {
		t.Fatal(said.String())
	}
	if err := unix.Unmount(at, 0); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	return r
}

// mountAt mounts until the process ends, which takes its mount namespace along.
func mountAt(t *testing.T, image, at string) {
	t.Helper()
	if err := os.MkdirAll(at, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := disk.Mount(image, at); err != nil {
		t.Fatal(err)
	}
}

func envNumber(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}
