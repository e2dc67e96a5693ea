// One set-up of this checkout at a time, across processes. Node's built-ins only, any Node >= 20.
import fs from "node:fs";
import path from "node:path";
import { engineDir } from "./engine.js";

/** Runs `work` alone among all that change what the checkout is set up with; what an interrupted one left is removed. */
export function withSetupLock(work) {
  return withLock(path.join(engineDir, "setup.lock"), async () => {
    for (const name of fs.readdirSync(engineDir)) {
      if (/^(build|dist)-\d+$/.test(name))
        fs.rmSync(path.join(engineDir, name), { recursive: true, force: true });
    }
    return work();
  });
}

/** Runs `work` while this process alone holds the lock file; waits for another holder, and takes over from a dead one. */
async function withLock(file, work) {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  for (let told = false; !tryLock(file);) {
    if (!told) process.stderr.write("Waiting for another set-up of this checkout to finish …\n");
    told = true;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  try {
    return await work();
  } finally {
    fs.rmSync(file, { force: true });
  }
}

function tryLock(file) {
  // The file appears whole: written under another name, then linked, which fails where the lock is held.
  const own = `${file}.${process.pid}`;
  fs.writeFileSync(own, String(process.pid));
  try {
    fs.linkSync(own, file);
    return true;
  } catch (error) {
    if (error.code !== "EEXIST") throw error;
    removeIfDead(file);
    return false;
  } finally {
    fs.rmSync(own, { force: true });
  }
}

function removeIfDead(file) {
  let pid;
  try {
    pid = Number(fs.readFileSync(file, "utf8"));
  } catch {
    return;
  }
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (error.code !== "ESRCH") return;
    // Renamed first: of several that see the dead holder, one alone removes its lock and none a new one's.
    const grave = `${file}.dead.${pid}`;
    try {
      fs.renameSync(file, grave);
      if (Number(fs.readFileSync(grave, "utf8")) !== pid) fs.linkSync(grave, file);
    } catch {
      // Another was quicker.
    } finally {
      fs.rmSync(grave, { force: true });
    }
  }
}
