package main

import (
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

// packageName is that of the .deb and the .rpm, of the user, and of the folders below /usr/share and /var/lib.
const packageName = "quantum-harvest"

// places says where documents of an archive go in a package.
var places = []struct{ prefix, to string }{
	{"man/", "/usr/share/man/man1/"},
	{"completions/bash/", "/usr/share/bash-completion/completions/"},
	{"completions/zsh/", "/usr/share/zsh/vendor-completions/"},
	{"completions/fish/", "/usr/share/fish/vendor_completions.d/"},
	{"systemd/", "/usr/lib/systemd/system/"},
	{"alerts/", "/usr/share/quantum-harvest/alerts/"},
	{"alertmanager/", "/usr/share/quantum-harvest/alertmanager/"},
	{"dashboards/", "/usr/share/quantum-harvest/dashboards/"},
	{"env/", "/usr/share/quantum-harvest/env/"},
	{"container/", "/usr/share/doc/quantum-harvest/container/"},
	{"cluster/", "/usr/share/doc/quantum-harvest/cluster/"},
	{"docs/", "/usr/share/doc/quantum-harvest/docs/"},
	{"", "/usr/share/doc/quantum-harvest/"},
}

// place is where a document goes in a package of a format.
func place(format, name string) string {
	if name == "LICENSE" && format == "deb" {
		return "/usr/share/doc/quantum-harvest/copyright"
	}
	for _, p := range places {
		if rest, ok := strings.CutPrefix(name, p.prefix); ok {
			if format == "rpm" {
				p.to = strings.Replace(p.to, "/zsh/vendor-completions/", "/zsh/site-functions/", 1)
			}
			return p.to + rest
		}
	}
	return ""
}

// pack writes a .deb or a .rpm.
func (r release) pack(format, arch, binary string, docs []document) error {
	info := &nfpm.Info{
		Name: packageName, Arch: arch, Platform: "linux", Version: r.version, VersionSchema: "none",
		Section: "net", Priority: "optional", License: "Apache-2.0", MTime: r.at, DisableGlobbing: true,
		Maintainer: "Quantum Harvest <quantum-harvest@localhost>",
		Description: "exit desk for automated trading\n" +
			"Watches open positions and the market, publishes exit proposals to Redis,\n" +
			"exports them as Prometheus metrics and proves that its advice is alive.\n" +
			"Three services: publisher, exporter, monitor. It places no orders.",
	}
	if format == "rpm" {
		info.Release = "1"
	}
	info.RPM.BuildHost = "localhost"
	info.RPM.Summary = "Exit desk for automated trading"
	info.RPM.Compression = "zstd"
	info.Deb.Compression = "xz"
	// Redis may be on another machine; the services wait for it.
	info.Recommends = map[string][]string{"deb": {"redis-server", "ca-certificates", "procps"}, "rpm": {"redis", "ca-certificates", "procps-ng"}}[format]
	info.Depends = map[string][]string{"deb": {"passwd | adduser"}, "rpm": {"shadow-utils", "coreutils", "diffutils", "gawk"}}[format]
	add := func(src, dst string, mode os.FileMode) {
		info.Contents = append(info.Contents, &files.Content{
			Source: src, Destination: dst, FileInfo: &files.ContentFileInfo{Mode: mode, MTime: r.at, Owner: "root", Group: "root"},
		})
	}
	add(binary, "/usr/bin/harvest", 0o755)
	add(filepath.Join(r.root, "deploy/packages/sysusers.conf"), "/usr/lib/sysusers.d/quantum-harvest.conf", 0o644)
	for _, d := range docs {
		add(d.src, place(format, d.path), 0o644)
	}
	scripts, err := r.scripts(format)
	if err != nil {
		return err
	}
	info.Scripts = scripts
	info = nfpm.WithDefaults(info)
	packager, err := nfpm.Get(format)
	if err != nil {
		return err
	}
	name := packager.ConventionalFileName(info)
	return create(filepath.Join(r.out, name), func(w io.Writer) error { return packager.Package(info, w) })
}

// scripts puts what all scripts have in common in front of each.
func (r release) scripts(format string) (nfpm.Scripts, error) {
	dir := filepath.Join(r.root, "deploy/packages/scripts")
	common, err := os.ReadFile(filepath.Join(dir, "common.sh"))
	if err != nil {
		return nfpm.Scripts{}, err
	}
	var s nfpm.Scripts
	names := map[string]*string{
		"deb-postinst.sh": &s.PostInstall, "deb-prerm.sh": &s.PreRemove, "deb-postrm.sh": &s.PostRemove,
		"rpm-post.sh": &s.PostInstall, "rpm-preun.sh": &s.PreRemove, "rpm-postun.sh": &s.PostRemove,
	}
	for name, to := range names {
		if !strings.HasPrefix(name, format+"-") {
			continue
		}
		own, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nfpm.Scripts{}, err
		}
		*to = path.Join(r.work, name)
		text := fmt.Sprintf("#!/bin/sh\nset -e\n\n%s\n%s\nexit 0\n", common, own)
		if err := os.WriteFile(*to, []byte(text), 0o755); err != nil {
			return nfpm.Scripts{}, err
		}
	}
	return s, nil
}
