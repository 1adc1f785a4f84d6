package installed

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// made is the one file of dist that matches.
func made(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(tree, "dist", pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("dist has %d of %s (%v): run 'make dist-check'", len(found), pattern, err)
	}
	return found[0]
}

// The image holds the program and the certificates, for a user that is a number, and the program runs where nothing else is.
func TestImage(t *testing.T) {
	img, err := tarball.ImageFromPath(made(t, "harvest_*_linux_amd64.oci.tar"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil {
		t.Error(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c := file.Config
	if c.User != "65532:65532" || !slices.Equal(c.Entrypoint, []string{"/usr/bin/harvest"}) || file.Architecture != "amd64" || c.Labels["org.opencontainers.image.version"] == "" {
		t.Errorf("the image says %+v", c)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers (%v)", len(layers), err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	dir := t.TempDir()
	var names []string
	for files := tar.NewReader(content); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		text, err := io.ReadAll(files)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, h.Name)
		if h.Typeflag == tar.TypeDir {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, h.FileInfo().Mode()); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(h.Name, ".crt") && !x509.NewCertPool().AppendCertsFromPEM(text) {
			t.Error("the certificates cannot be read")
		}
	}
	if want := []string{"data/", "etc/ssl/certs/ca-certificates.crt", "usr/bin/harvest"}; !slices.Equal(names, want) {
		t.Errorf("the image holds %v, want %v", names, want)
	}
	out, err := exec.Command("chroot", "--userspec=65532:65532", dir, "/usr/bin/harvest", "version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), c.Labels["org.opencontainers.image.version"]) {
		t.Errorf("alone in its image the program says: %s (%v)", out, err)
	}
}

func TestBillAndSums(t *testing.T) {
	text, err := os.ReadFile(made(t, "harvest_*_linux_amd64.cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	var bom cyclonedx.BOM
	if err := cyclonedx.NewBOMDecoder(bytes.NewReader(text), cyclonedx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(*bom.Components, func(c cyclonedx.Component) bool { return c.Name == "github.com/redis/go-redis/v9" }) {
		t.Error("the client of Redis is not in the bill of materials")
	}
	cmd := exec.Command("sha256sum", "--check", "--strict", "SHA256SUMS")
	cmd.Dir = filepath.Dir(made(t, "SHA256SUMS"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
