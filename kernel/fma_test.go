package kernel_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// fused matches the fused multiply-add instructions in a listing for arm64, where the compiler uses them unasked. The
// source decides: what is not fused there is fused nowhere.
var fused = regexp.MustCompile(`\bFN?M(ADD|SUB)[SD]?\b`)

// listing compiles the package in dir for arm64 and returns its assembly, without that of its imports.
func listing(t *testing.T, dir string) string {
	t.Helper()
	cmd := exec.Command("go", "build", "-o", os.DevNull, "-gcflags=-S", ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go build for arm64: %v\n%s", err, out)
	}
	return string(out)
}

// TestNoFusedMultiplyAdd: a fused product is not rounded, so where the compiler fuses, results would differ between
// machines in the last bit.
func TestNoFusedMultiplyAdd(t *testing.T) {
	asm := listing(t, ".")
	if !strings.Contains(asm, "kernel.Propose") || !strings.Contains(asm, "FMULD") {
		t.Fatalf("this is no listing of the kernel: %.300q", asm)
	}
	for line := range strings.Lines(asm) {
		if fused.MatchString(line) {
			t.Errorf("fused, wrap the product in float64(): %s", strings.TrimSpace(line))
		}
	}
}

// TestFusedMultiplyAddIsSeen shows that the check above would find one.
func TestFusedMultiplyAddIsSeen(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module sample\n\ngo 1.26\n",
		"a.go":   "package sample\n\nfunc F(a, b, c float64) float64 { return a*b + c }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if !fused.MatchString(listing(t, dir)) {
		t.Error("the compiler fused nothing, or the pattern misses it")
	}
}
