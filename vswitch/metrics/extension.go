package metrics

import "github.com/hvswitch/hvswitch/vswitch/extension"

type extensionFamilies struct {
	disabled, failed, dropped family
}

func newExtensionFamilies(c *catalog) extensionFamilies {
	labels := []string{labelExtension, labelSwitch}
	return extensionFamilies{
		disabled: c.gauge("extension_disabled", "1 if the extension is in the list of the switch without effect.", labels...),
		failed:   c.gauge("extension_failed", "1 if the extension has panicked and is out of use.", labels...),
		dropped:  c.counter("extension_dropped_frames", "Frames dropped by the extension.", labels...),
	}
}

func (s *scrape) extension(e extension.Status, sw *label) {
	f := &s.extensionFamilies
	labels := s.labels(pair(labelExtension, e.Name), s.hostLabel, sw)
	s.sendBool(f.disabled, e.Disabled, labels)
	s.sendBool(f.failed, e.Failure != "", labels)
	s.send(f.dropped, float64(e.Dropped), labels)
}
