package org.apache.storm.container.oci;

import java.io.File;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.storm.DaemonConfig;

/**
 * Names the files of an image in a store on this machine.
 *
 * <p>It lies in Storm's own package because the type of a resource and the parts of a manifest are visible only there.
 */
public class StoreResources implements OciManifestToResourcesPluginInterface {
    private File store;

    @Override
    public void init(Map<String, Object> conf) {
        store = new File((String) conf.get(DaemonConfig.STORM_OCI_IMAGE_HDFS_TOPLEVEL_DIR));
    }

    @Override
    public List<OciResource> getLayerResources(ImageManifest manifest) throws IOException {
        List<OciResource> layers = new ArrayList<>();
        for (ImageManifest.Blob layer : manifest.getLayers()) {
            layers.add(resource(layer, "layers", ".sqsh", OciResource.OciResourceType.LAYER));
        }
        return layers;
    }

    @Override
    public OciResource getConfigResource(ImageManifest manifest) throws IOException {
        return resource(manifest.getConfig(), "config", "", OciResource.OciResourceType.CONFIG);
    }

    private OciResource resource(ImageManifest.Blob blob, String directory, String suffix, OciResource.OciResourceType type)
            throws IOException {
        String digest = blob.getDigest();
        if (!digest.matches("sha256:[0-9a-f]{64}")) {
            throw new IOException("not a SHA-256 digest: '" + digest + "'");
        }
        File file = new File(new File(store, directory), digest.substring("sha256:".length()) + suffix);
        return new OciResource(file.getPath(), file.getName(), file.length(), file.lastModified(), type);
    }
}
