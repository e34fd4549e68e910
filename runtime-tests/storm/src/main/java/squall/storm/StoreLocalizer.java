package squall.storm;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Map;
import org.apache.storm.DaemonConfig;
import org.apache.storm.container.oci.OciResource;
import org.apache.storm.container.oci.OciResourcesLocalizerInterface;
import org.apache.storm.utils.ConfigUtils;
import org.apache.storm.utils.ObjectReader;

/**
 * Copies an image's files from the store into the supervisor's directory, where worker-launcher takes layers from.
 *
 * <p>A file is readable by all, since the launcher opens it as the worker's user, and takes its name only when it is whole.
 */
public class StoreLocalizer implements OciResourcesLocalizerInterface {
    private Path local;

    @Override
    public void init(Map<String, Object> conf) throws IOException {
        String configured = ObjectReader.getString(conf.get(DaemonConfig.STORM_OCI_RESOURCES_LOCAL_DIR), null);
        local = configured != null
            ? Path.of(configured)
            : Path.of(ConfigUtils.supervisorLocalDir(conf), "oci-resources");
        Files.createDirectories(local.resolve("layers"));
        Files.createDirectories(local.resolve("config"));
        Files.createDirectories(local.resolve("working"));
    }

    @Override
    public synchronized String localize(OciResource resource) throws IOException {
        Path source = Path.of(resource.getPath());
        Path there = local.resolve(source.getParent().getFileName()).resolve(resource.getFileName());
        if (!Files.exists(there)) {
            Path working = local.resolve("working").resolve(resource.getFileName());
            Files.copy(source, working, StandardCopyOption.REPLACE_EXISTING);
            Files.setPosixFilePermissions(working, PosixFilePermissions.fromString("r--r--r--"));
            Files.move(working, there, StandardCopyOption.ATOMIC_MOVE);
        }
        return there.toString();
    }
}
