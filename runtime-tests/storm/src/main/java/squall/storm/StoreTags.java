package squall.storm;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Map;
import org.apache.storm.DaemonConfig;
import org.apache.storm.container.oci.ImageManifest;
import org.apache.storm.container.oci.OciImageTagToManifestPluginInterface;

/** Looks up tags in the file {@code image-tag-to-hash} of a store on this machine, and reads the manifest there. */
public class StoreTags implements OciImageTagToManifestPluginInterface {
    private final ObjectMapper json = new ObjectMapper();
    private Path store;

    @Override
    public void init(Map<String, Object> conf) {
        store = Path.of((String) conf.get(DaemonConfig.STORM_OCI_IMAGE_HDFS_TOPLEVEL_DIR));
    }

    @Override
    public ImageManifest getManifestFromImageTag(String tag) throws IOException {
        Path manifest = store.resolve("manifests").resolve(getHashFromImageTag(tag));
        return json.readValue(manifest.toFile(), ImageManifest.class);
    }

    /** Reads lines of the form {@code tag,tag:hash#comment}; the last one that names the tag counts. */
    @Override
    public String getHashFromImageTag(String tag) {
        String hash = null;
        try {
            for (String line : Files.readAllLines(store.resolve("image-tag-to-hash"))) {
                String entry = line.split("#", 2)[0];
                int colon = entry.lastIndexOf(':');
                if (colon > 0 && Arrays.asList(entry.substring(0, colon).split(",")).contains(tag)) {
                    hash = entry.substring(colon + 1);
                }
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        if (hash == null) {
            throw new IllegalArgumentException("no image is tagged '" + tag + "'");
        }
        return hash;
    }
}
