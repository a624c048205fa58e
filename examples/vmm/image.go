package main

import (
	"archive/tar"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// image is what guests boot.
type image struct {
	kernel string // file
	root   string // file: a cpio archive of the root file system, without /init and rtt
	rtt    string // file: the program of that name
}

// busybox is the package of it that needs no libraries.
const busybox = "busybox-static"

//go:embed init.sh
var initScript []byte

// modules are those of the network card, of which a kernel may have some built in. The initScript knows their order.
var modules = []string{
	"virtio", "virtio_ring", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "failover", "net_failover", "virtio_net",
}

// newImage returns the image in the directory cache, which it makes if there is none.
func newImage(ctx context.Context, cache string, w io.Writer) (*image, error) {
	img := &image{kernel: filepath.Join(cache, "vmlinuz"), root: filepath.Join(cache, "root.cpio")}
	var err error
	if img.rtt, err = buildRTT(ctx, cache); err != nil {
		return nil, err
	}
	if _, err := os.Stat(img.root); err == nil {
		return img, nil
	}
	fmt.Fprintf(w, "Making the image of the guests in %s\n", cache)
	if err := img.make(ctx, cache); err != nil {
		return nil, fmt.Errorf("image of the guests: %w", err)
	}
	return img, nil
}

func (img *image) make(ctx context.Context, cache string) error {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp(cache, "making")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	kernel, err := kernelPackage(ctx)
	if err != nil {
		return err
	}
	if _, err := output(ctx, work, "apt-get", "download", "-q", kernel, busybox); err != nil {
		return err
	}
	var content bytes.Buffer
	root := newCPIO(&content)
	for _, dir := range []string{"dev", "proc", "sys", "tmp"} {
		root.mkdir(dir)
	}
	vmlinuz, err := addKernel(ctx, root, work, kernel)
	if err != nil {
		return err
	}
	err = errors.Join(
		addBusybox(ctx, root, work),
		addProgram(ctx, root, "iperf3"),
		addProgram(ctx, root, "ethtool"),
	)
	if err != nil {
		return err
	}
	if err := root.close(); err != nil {
		return err
	}
	// The archive comes last: with it the image is complete.
	return errors.Join(
		replace(work, img.kernel, vmlinuz),
		replace(work, img.root, content.Bytes()),
	)
}

// replace writes a file of which nobody ever sees a part.
func replace(work, name string, content []byte) error {
	tmp := filepath.Join(work, filepath.Base(name))
	if err := os.WriteFile(tmp, content, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}

var dependency = regexp.MustCompile(`Depends: (linux-image-[0-9]\S*)`)

// kernelPackage returns the name of the package that has Debian's kernel for virtual machines.
func kernelPackage(ctx context.Context) (string, error) {
	const meta = "linux-image-cloud-amd64"
	out, err := output(ctx, "", "apt-cache", "depends", meta)
	if err != nil {
		return "", err
	}
	m := dependency.FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("the package lists do not know %s (apt-get update)", meta)
	}
	return string(m[1]), nil
}

// addKernel adds the modules of the kernel in a package to the root file system and returns the kernel.
func addKernel(ctx context.Context, root *cpio, dir, pkg string) (vmlinuz []byte, err error) {
	files, err := unpack(ctx, dir, pkg, func(name string) bool {
		return strings.HasPrefix(name, "boot/vmlinuz-") || slices.Contains(modules, moduleName(name))
	})
	if err != nil {
		return nil, err
	}
	for name, content := range files {
		if moduleName(name) == "" {
			vmlinuz = content
			continue
		}
		root.add("lib/modules/"+path.Base(name), content)
	}
	if vmlinuz == nil {
		return nil, fmt.Errorf("package %s: no kernel in it", pkg)
	}
	return vmlinuz, nil
}

// moduleName returns the name of the kernel module in a file, or nothing.
func moduleName(file string) string {
	name, ext, _ := strings.Cut(path.Base(file), ".")
	if !strings.HasPrefix(ext, "ko") { // or ko.xz
		return ""
	}
	return name
}

// addBusybox adds the program that is nearly all programs.
func addBusybox(ctx context.Context, root *cpio, dir string) error {
	files, err := unpack(ctx, dir, busybox, func(name string) bool { return strings.HasSuffix(name, "bin/busybox") })
	for _, content := range files {
		root.add("bin/busybox", content)
	}
	return err
}

var library = regexp.MustCompile(`/\S+`)

// addProgram adds a program of this machine and the libraries that it needs.
func addProgram(ctx context.Context, root *cpio, name string) error {
	file, err := exec.LookPath(name)
	if err != nil {
		return err
	}
	needed, err := output(ctx, "", "ldd", file)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	root.add("bin/"+name, content)
	for _, lib := range library.FindAllString(string(needed), -1) {
		if content, err = os.ReadFile(lib); err != nil {
			return err
		}
		root.add(lib, content)
	}
	return nil
}

// unpack returns files of a package in dir by their names.
func unpack(ctx context.Context, dir, pkg string, want func(name string) bool) (map[string][]byte, error) {
	debs, err := filepath.Glob(filepath.Join(dir, pkg+"_*.deb"))
	if err != nil || len(debs) != 1 {
		return nil, fmt.Errorf("package %s was not downloaded", pkg)
	}
	out, err := output(ctx, "", "dpkg-deb", "--fsys-tarfile", debs[0])
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for archive := tar.NewReader(bytes.NewReader(out)); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, fmt.Errorf("package %s: %w", pkg, err)
		}
		name := strings.TrimPrefix(h.Name, "./")
		if h.Typeflag != tar.TypeReg || !want(name) {
			continue
		}
		if files[name], err = io.ReadAll(archive); err != nil {
			return nil, fmt.Errorf("package %s: %w", pkg, err)
		}
	}
}

// output runs a program in dir and returns what it prints.
func output(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir, c.Env = dir, append(os.Environ(), "LC_ALL=C")
	var stderr strings.Builder
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", c, err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}
